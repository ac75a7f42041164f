import pytest

from anatomad.errors import UsageError
from anatomad.train.schedule import MIN_STEPS, average_decay, fit_steps, parse_time, rate_factor


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), ("1h30m", 5400), ("0.5s", 0.5)]
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "20 m", "-5m", "0s", "20min", "1e3s", "5m!"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match=r"like 90s, 20m, 1.5h or 1h30m"):
        parse_time(text)


def test_rate_warms_up_then_falls_to_two_percent() -> None:
    factors = [rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 50, rel=1e-3)
    assert factors.index(max(factors)) == 49
    assert factors[49:] == sorted(factors[49:], reverse=True)
    assert factors[-1] == pytest.approx(0.02, abs=1e-4)
    assert rate_factor(1, 20) > 0.9  # a short stage warms up in a tenth of its steps
    assert rate_factor(0, 1) == 1


def test_average_remembers_longer_with_time() -> None:
    assert average_decay(0, 0.995) == 0.1
    assert average_decay(10_000, 0.995) == 0.995


def test_budget_goes_by_the_plans_shares() -> None:
    planned = {"anatomy": 100, "restoration": 100, "recoupling": 50}
    steps = fit_steps(planned, {"anatomy": 1.0, "restoration": 0.5, "recoupling": 0.25}, 1000)
    assert steps == {"anatomy": 400, "restoration": 800, "recoupling": 800}
    assert set(fit_steps(planned, dict.fromkeys(planned, 1.0), -5).values()) == {MIN_STEPS}
