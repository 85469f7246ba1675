"""Claims survive the death of workers."""

from lib.bench import WorkQueue


def drain(queue: WorkQueue, worker: int) -> list[str]:
    names = []
    while (name := queue.take(worker)) is not None:
        names.append(name)
    return names


def test_every_sequence_is_handed_out_once_and_in_order() -> None:
    queue = WorkQueue(["a", "b", "c"])
    assert [queue.take(0), queue.take(1), queue.take(0), queue.take(1)] == ["a", "b", "c", None]


def test_a_dead_worker_gives_its_sequences_back_once() -> None:
    queue = WorkQueue(["a", "b"])
    queue.take(0)
    assert queue.lost(0).given_back == ("a",)
    assert drain(queue, 1) == ["b"]
    queue.done(1, "b")
    assert queue.take(1) == "a"
    loss = queue.lost(1)
    assert (loss.given_back, loss.given_up) == ((), ("a",))
    assert queue.take(2) is None


def test_suspects_run_alone_so_that_an_innocent_row_is_not_given_up() -> None:
    queue = WorkQueue(["innocent", "poison"])
    assert drain(queue, 0) == ["innocent", "poison"]
    queue.lost(0)
    assert queue.take(1) == "innocent"
    assert queue.take(1) is None
    queue.done(1, "innocent")
    assert queue.take(1) == "poison"
    assert queue.lost(1).given_up == ("poison",)
