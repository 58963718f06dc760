"""Values that are worked out once, by each object for itself."""

import threading

from medportal.core.once import once


class Worker:
    """Counts how often it works."""

    def __init__(self, meet: threading.Barrier | None = None) -> None:
        self.worked = 0
        self._meet = meet

    @once
    def value(self) -> int:
        """Return what takes work."""
        self.worked += 1
        if self._meet is not None:
            self._meet.wait(timeout=30)
        return self.worked


def test_it_is_worked_out_once_by_each_object():
    first, second = Worker(), Worker()
    assert (first.value, first.value, second.value) == (1, 1, 1)
    assert (first.worked, second.worked) == (1, 1)


def test_the_class_shows_what_it_is():
    assert isinstance(Worker.value, once) and Worker.value.__doc__ == "Return what takes work."


def test_objects_of_two_threads_do_not_wait_for_each_other():
    """Both are at work at the same time; with the lock of functools they could never meet."""
    meet = threading.Barrier(2)
    workers = [Worker(meet), Worker(meet)]
    seen: list[int] = []
    threads = [threading.Thread(target=lambda one=one: seen.append(one.value)) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1, 1]
