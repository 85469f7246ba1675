"""The mean of two networks' weights, one of which went on from the other (Wortsman et al., Model soups, ICML 2022).

python scripts/average_networks.py first.safetensors second.safetensors --output pretrained/synthetic_lite
"""

import argparse
import json
import sys
from pathlib import Path

from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.models import save_release


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, help="network with its .json, whose settings are those of the mean")
    parser.add_argument("second", type=Path, help="network that was trained on from the first one")
    parser.add_argument("--output", type=Path, required=True, help="file to write, without its ending")
    args = parser.parse_args()
    first, second = load_file(args.first), load_file(args.second)
    if first.keys() != second.keys() or any(first[k].shape != second[k].shape for k in first):
        parser.error(f"{args.second} has other tensors than {args.first}")
    mean = {k: (v + second[k]) / 2 if v.is_floating_point() else v for k, v in first.items()}
    metadata = json.loads(args.first.with_suffix(".json").read_text(encoding="utf-8"))
    metadata["initial"] = f"{metadata['initial']}; the mean with a second training that went on from this one"
    print(save_release(args.output, mean, metadata))


if __name__ == "__main__":
    main()
