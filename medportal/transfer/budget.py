"""How much a partner may ask for: a bucket that refills with time (PURE)."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens that refill at ``rate`` a second up to ``burst``; ``at`` is monotonic seconds."""

    rate: float
    burst: float
    tokens: float
    at: float

    def refilled(self, now: float) -> "Budget":
        """Return the bucket as it stands at ``now``; a clock that ran back refills nothing."""
        gained = max(0.0, now - self.at) * self.rate
        return replace(self, tokens=min(self.burst, self.tokens + gained), at=now)

    @property
    def empty(self) -> bool:
        """Tell whether less than one token is left."""
        return self.tokens < 1

    def spend(self) -> "Budget":
        """Return the bucket with one token fewer; never below zero."""
        return replace(self, tokens=max(0.0, self.tokens - 1))

    def returned(self) -> "Budget":
        """Return the bucket with a token put back that was taken in advance."""
        return replace(self, tokens=min(self.burst, self.tokens + 1))

    def wait_ms(self) -> int:
        """Return in how many milliseconds a token is there again, at least one."""
        return max(1, round((1 - self.tokens) / self.rate * 1000))


@dataclass(slots=True)
class Allowance:
    """What one partner may ask for, over all of its connections together.

    It changes in place and is shared by a partner's sessions, which are otherwise frozen: a copy
    for each connection would be as many allowances. Tokens are taken before anything is looked
    up and put back when an answer turns out not to need them, so that questions under way count.

    ``queries`` bounds all questions, ``misses`` those about patients not known here (trying out
    numbers), ``unused`` those about known patients that no record follows (each is an event in
    that patient's audit).
    """

    queries: Budget
    misses: Budget
    unused: Budget

    def take(self, now: float) -> int:
        """Take what one QUERY may cost at most; ``now`` is monotonic seconds.

        Returns 0, or in how many milliseconds to ask again, and then nothing is taken.
        """
        self.queries = self.queries.refilled(now)
        self.misses = self.misses.refilled(now)
        self.unused = self.unused.refilled(now)
        for budget in (self.queries, self.misses, self.unused):
            if budget.empty:
                return budget.wait_ms()
        self.queries = self.queries.spend()
        self.misses = self.misses.spend()
        self.unused = self.unused.spend()
        return 0

    def no_miss(self) -> None:
        """Put back what a miss would have cost."""
        self.misses = self.misses.returned()

    def no_waste(self) -> None:
        """Put back what a question about a known patient would have cost without a record."""
        self.unused = self.unused.returned()


def full(rate: float, burst: float) -> Budget:
    """Return a full bucket."""
    return Budget(rate, burst, burst, 0.0)
