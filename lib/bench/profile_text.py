"""A profile as lines for a terminal."""

from __future__ import annotations

from lib.bench.profile import Profile, Timing


def profile_text(profile: Profile) -> str:
    """Every number with what it includes; lines that users of OSTrack's script know come last, in their wording."""
    p, frame, target = profile, profile.per_frame, profile.per_target
    width, height = p.frame_size_wh
    lines = [f"  {k + ':':<12} {v}" for k, v in p.setting.items()]
    lines += ["", f"parameters                     {p.parameters:,}"]
    lines += [
        "multiply-accumulates, batch 1:",
        f"  once per target              {_giga(target.macs)}",
        f"  per frame                    {_giga(frame.macs)}",
        f"  both                         {_giga(p.macs)}   every matrix product counted, fused attention too",
        f"  both, layers only            {_giga(p.layer_macs)}   without products of activations, as thop counts",
        _operations(frame.kernels, target.kernels),
    ]
    uncounted = sorted({*frame.uncounted, *target.uncounted})
    if uncounted:
        lines.append(f"  warning: the products of {', '.join(uncounted)} are not in these figures")
    lines += [
        f"times per frame, batch 1, pictures of {width} x {height}:   median [10 % .. 90 %], frames per second",
        f"  network alone                {_time(p.network)}",
        f"  tracker step                 {_time(p.step)}   crop, network, box",
        f"  tracker step with decoding   {_time(p.step_with_decode)}   and the JPEG file of the frame",
        f"  start on a target            {_time(p.init)}",
        "throughput of tracker steps:",
        *(f"  batch {size:<4}                   {rate:8.1f} frames/s" for size, rate in p.throughput.items()),
    ]
    if p.peak_memory is not None:
        lines.append(f"peak memory on the device      {p.peak_memory / 2**20:,.0f} MiB")
    lines += [
        "",
        f"overall macs is  {p.layer_macs / 1e9:.1f}G",
        f"overall params is  {p.parameters / 1e6:.1f}M",
        f"The average overall latency is {p.network.median:.2f} ms",
        f"FPS is {1e3 / p.network.median:.2f} fps",
    ]
    return "\n".join(lines)


def _operations(frame: int, target: int) -> str:
    if frame == 0:
        return "operations per frame           not known: another engine computes the network"
    return f"operations per frame           {frame}   dispatched, views left out ({target} per target)"


def _giga(macs: int) -> str:
    return f"{macs / 1e9:9.3f} G"


def _time(t: Timing) -> str:
    return f"{t.median:9.2f} ms [{t.low:.2f} .. {t.high:.2f}], {1e3 / t.median:8.1f}/s ({t.runs} runs)"
