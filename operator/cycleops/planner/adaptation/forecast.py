"""The rate some seconds ahead, with an interval: a local level with a damped trend, and the time of day when known.

State [level, trend] by a Kalman filter over windows in which arrivals were counted:

    level' = level + D(dt) trend + w1,  trend' = exp(-dt / DAMPING) trend + w2,   D(h) = DAMPING (1 - exp(-h / DAMPING))
    count / window = level + v,         v ~ N(0, level / window)                  (Poisson)

The noise of the level is scaled by how well the last windows were predicted. A window more than GATE standard
deviations off is a jump: the filter forgets its level and follows. Over the time of day, the mean rate of each bin of
earlier days gives the growth from now to then, used once a whole day was seen.

Sources: A. C. Harvey, Forecasting, Structural Time Series Models and the Kalman Filter, 1989, chapter 4 (local linear
trend); E. S. Gardner and E. McKenzie, Forecasting trends in time series, Management Science 31, 1985 (damped trend).
"""

import math

from pydantic import BaseModel, ConfigDict, Field

DAMPING_SECONDS = 300.0
LEVEL_NOISE = 0.004  # relative, per root second
TREND_NOISE = 0.00006  # relative to the level, per second and root second
GATE = 4.0
DAY_SECONDS = 86_400.0
BINS = 48
_MEMORY = 0.95  # of how well past windows were predicted
_FEW_WINDOWS = 8  # below so many, the interval is wider by the Student factor
_RAMP_CHANCE = 0.5  # that a jump is the start of a ramp
_KEEP_DAYS = 0.5  # weight of what was known of a bin when a new day's value comes


class Season(BaseModel):
    """Mean rate by bin of the day; 0 where nothing was seen. ``days``: whole days seen."""

    model_config = ConfigDict(frozen=True)

    rate: tuple[float, ...] = Field(default=(0.0,) * BINS, min_length=BINS, max_length=BINS)
    bin: int = Field(default=-1, ge=-1, lt=BINS, description="That is being filled; -1 before the first window.")
    arrivals: float = Field(default=0.0, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    bins_seen: int = Field(default=0, ge=0)

    @property
    def known(self) -> bool:
        return self.bins_seen > BINS and min(self.rate) > 0

    def growth(self, *, at: float, ahead_seconds: float) -> float:
        """Rate then over rate now, as on earlier days; 1 while there is no whole day."""
        return self._at(at + ahead_seconds) / self._at(at) if self.known else 1.0

    def _at(self, time: float) -> float:
        """Linear between the middles of bins."""
        place = time % DAY_SECONDS / DAY_SECONDS * BINS - 0.5
        low = math.floor(place)
        share = place - low
        return (1 - share) * self.rate[low % BINS] + share * self.rate[(low + 1) % BINS]

    def seen(self, *, arrivals: int, window_seconds: float, ended_at: float) -> "Season":
        now = int((ended_at - window_seconds / 2) % DAY_SECONDS / DAY_SECONDS * BINS)
        if now == self.bin:
            return self.model_copy(
                update={"arrivals": self.arrivals + arrivals, "seconds": self.seconds + window_seconds}
            )
        rate = list(self.rate)
        if self.bin >= 0 and self.seconds > 0:
            mean, old = self.arrivals / self.seconds, rate[self.bin]
            rate[self.bin] = mean if old == 0 else (1 - _KEEP_DAYS) * mean + _KEEP_DAYS * old
        return Season(
            rate=tuple(rate),
            bin=now,
            arrivals=arrivals,
            seconds=window_seconds,
            bins_seen=min(self.bins_seen + 1, 1_000_000),
        )


class Rate(BaseModel):
    """The filter's state. ``surprise``: mean square of normalised innovations, 1 when the model fits."""

    model_config = ConfigDict(frozen=True)

    level: float = Field(default=0.0, ge=0)
    trend: float = 0.0
    variance: float = Field(default=0.0, ge=0, description="Of the level.")
    covariance: float = 0.0
    trend_variance: float = Field(default=0.0, ge=0)
    surprise: float = Field(default=1.0, ge=0)
    windows: int = Field(default=0, ge=0)
    ended_at: float = 0.0
    season: Season = Season()

    def mean(self, *, ahead_seconds: float) -> float:
        """Requests per second, expected so long after the last window."""
        reach = DAMPING_SECONDS * (1 - math.exp(-ahead_seconds / DAMPING_SECONDS))
        growth = self.season.growth(at=self.ended_at, ahead_seconds=ahead_seconds)
        ahead = self.level * growth if self.season.known else self.level + reach * self.trend
        return max(ahead, 0.0)

    def deviation(self, *, ahead_seconds: float) -> float:
        """Standard deviation of that, wider with little history."""
        reach = DAMPING_SECONDS * (1 - math.exp(-ahead_seconds / DAMPING_SECONDS))
        spread = self.variance + 2 * reach * self.covariance + reach**2 * self.trend_variance
        spread += self._level_noise() * ahead_seconds
        few = math.sqrt((self.windows + 2) / self.windows) if 0 < self.windows < _FEW_WINDOWS else 1.0
        return few * math.sqrt(max(spread, 0.0))

    def upper(self, *, ahead_seconds: float, deviations: float) -> float:
        return self.mean(ahead_seconds=ahead_seconds) + deviations * self.deviation(ahead_seconds=ahead_seconds)

    def _level_noise(self) -> float:
        """Variance per second."""
        return (LEVEL_NOISE * max(self.level, 0.1)) ** 2 * min(max(self.surprise, 0.25), 4.0)


def observe(before: Rate, *, arrivals: int, window_seconds: float, ended_at: float) -> Rate:
    """Takes in one window. Raises ValueError when it has no length, or ends before the last one did."""
    if not window_seconds > 0 or arrivals < 0:
        raise ValueError("window_seconds must be above 0 and arrivals 0 or more")
    if before.windows and ended_at <= before.ended_at:
        raise ValueError(f"the window ends at {ended_at}, the last one at {before.ended_at}")
    found = arrivals / window_seconds
    season = before.season.seen(arrivals=arrivals, window_seconds=window_seconds, ended_at=ended_at)
    counting = max(arrivals, 1) / window_seconds**2
    if not before.windows:
        return Rate(level=found, variance=counting, windows=1, ended_at=ended_at, season=season)
    elapsed = ended_at - before.ended_at
    damped = math.exp(-elapsed / DAMPING_SECONDS)
    reach = DAMPING_SECONDS * (1 - damped)
    level, trend = max(before.level + reach * before.trend, 0.0), damped * before.trend
    base = max(before.level, found, 0.1)
    p00 = before.variance + 2 * reach * before.covariance + reach**2 * before.trend_variance
    p00 += before._level_noise() * elapsed
    p01 = damped * (before.covariance + reach * before.trend_variance)
    p11 = damped**2 * before.trend_variance + (TREND_NOISE * base) ** 2 * elapsed
    innovation = found - level
    noise = max(level, found, 1 / window_seconds) / window_seconds * max(before.surprise, 1.0)
    normal = innovation**2 / (p00 + noise)
    jumped = normal > GATE**2
    if jumped:  # a step, or the start of a ramp that may go on like this: the next window tells
        p00 += innovation**2
        p01 += _RAMP_CHANCE * innovation**2 / elapsed
        p11 += _RAMP_CHANCE * (innovation / elapsed) ** 2
    total = p00 + noise
    gain, gain_trend = p00 / total, p01 / total
    return Rate(
        level=max(level + gain * innovation, 0.0),
        trend=trend + gain_trend * innovation,
        variance=(1 - gain) * p00,
        covariance=(1 - gain) * p01,
        trend_variance=max(p11 - gain_trend * p01, 0.0),
        surprise=before.surprise if jumped else _MEMORY * before.surprise + (1 - _MEMORY) * normal,
        windows=min(before.windows + 1, 1_000_000),
        ended_at=ended_at,
        season=season,
    )
