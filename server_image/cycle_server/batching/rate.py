"""A limit on how many texts each tenant may send: token buckets. Times are seconds on a monotonic clock."""

from dataclasses import dataclass

MAXIMUM_TENANTS = 1024
TIDY_SECONDS = 1.0


@dataclass
class _Bucket:
    texts: float
    at: float


class RateLimits:
    """``burst`` texts at once, ``texts_per_second`` on average.

    Tenants beyond MAXIMUM_TENANTS share the bucket of those who name none: inventing names gains little.
    """

    def __init__(self, *, texts_per_second: float, burst: float) -> None:
        self.texts_per_second = texts_per_second
        self._burst = burst
        self._buckets: dict[str, _Bucket] = {}
        self._tidy_at = 0.0

    def take(self, tenant: str, *, texts: int, now: float) -> float:
        """0 when the texts may pass, else the seconds until they might; what may not pass takes nothing.

        A request of more texts than ``burst`` passes when the bucket is full, and leaves it in debt.
        """
        bucket = self._bucket(tenant, now=now)
        bucket.texts = min(bucket.texts + (now - bucket.at) * self.texts_per_second, self._burst)
        bucket.at = now
        lacking = min(texts, self._burst) - bucket.texts
        if lacking > 0:
            return lacking / self.texts_per_second
        bucket.texts -= texts
        return 0.0

    def _bucket(self, tenant: str, *, now: float) -> _Bucket:
        if tenant not in self._buckets and len(self._buckets) >= MAXIMUM_TENANTS:
            self._forget_full(now=now)
            if len(self._buckets) >= MAXIMUM_TENANTS:
                tenant = ""
        return self._buckets.setdefault(tenant, _Bucket(texts=self._burst, at=now))

    def _forget_full(self, *, now: float) -> None:
        """A full bucket says no more than none."""
        if now < self._tidy_at:
            return
        self._tidy_at = now + TIDY_SECONDS
        self._buckets = {
            tenant: bucket
            for tenant, bucket in self._buckets.items()
            if bucket.texts + (now - bucket.at) * self.texts_per_second < self._burst
        }
