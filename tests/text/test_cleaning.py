"""Cleaning: each reason by its definition."""

from kotya.text.cleaning import EMPTY, LONG, RATIO, SHORT, CleaningConfig, describe


def test_reasons() -> None:
    config = CleaningConfig(min_length=2, max_length=10, max_ratio=3)
    assert config.reason(0, 5) == config.reason(5, 0) == EMPTY
    assert config.reason(1, 5) == SHORT
    assert config.reason(5, 11) == LONG
    assert config.reason(2, 7) == config.reason(7, 2) == RATIO
    assert config.reason(2, 6) is config.reason(10, 10) is None
    assert CleaningConfig().reason(1, 200) is None


def test_report_in_a_line() -> None:
    assert describe({"kept": 1200, "empty": 3, "duplicate": 0}) == "1,200 pairs; dropped: 3 empty"
    assert describe({"kept": 5, "empty": 0}) == "5 pairs"
