"""``python -m bench``: every bench after the other, one JSON line each."""

from bench import outbox

if __name__ == "__main__":
    outbox.main([])
