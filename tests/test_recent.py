"""Values that were used last."""

import threading

from rsretrieval.recent import Recent


def test_the_least_recently_used_goes_first() -> None:
    kept: Recent[str, str] = Recent(2)
    kept.put("a", "one")
    kept.put("b", "two")
    assert kept.get("a") == "one"
    kept.put("c", "three")
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == ("one", None, "three")


def test_sizes_count_and_the_newest_stays_whatever_its_own() -> None:
    kept: Recent[str, str] = Recent(5, len)
    kept.put("a", "xxx")
    kept.put("a", "xx")
    assert kept.total == 2
    kept.put("b", "yyy")
    assert (kept.total, kept.get("a")) == (5, "xx")
    kept.put("c", "z" * 9)
    assert (kept.total, kept.get("a"), kept.get("b"), kept.get("c")) == (9, None, None, "z" * 9)
    kept.put("d", "")
    assert (kept.total, kept.get("d")) == (0, "")


def test_threads_that_ask_for_one_value_make_it_once() -> None:
    kept: Recent[int, list[int]] = Recent(3)
    made: list[int] = []
    threads = [threading.Thread(target=kept.kept, args=(7, lambda: made.append(7) or made)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [7]
    assert kept.kept(7, list) is made
