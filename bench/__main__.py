"""``python -m bench``: every bench after the other, JSON lines."""

from bench import outbox, sign_ins

if __name__ == "__main__":
    outbox.main([])
    sign_ins.main()
