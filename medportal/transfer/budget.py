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

    def wait_ms(self) -> int:
        """Return in how many milliseconds a token is there again, at least one."""
        return max(1, round((1 - self.tokens) / self.rate * 1000))


def full(rate: float, burst: float) -> Budget:
    """Return a full bucket."""
    return Budget(rate, burst, burst, 0.0)
