"""Accounting periods: calendar months of China Standard Time, written `2026-11`."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

BOOK_TIME = timezone(timedelta(hours=8), "CST")
"""Asia/Shanghai. A fixed offset, since it has had no summer time since 1991 and hosts may lack a zone database."""


def local_date(at: datetime) -> date:
    """The day in China on which something happened."""
    return at.astimezone(BOOK_TIME).date()


def period_of(day: date) -> str:
    return f"{day.year:04d}-{day.month:02d}"


def next_period(period: str) -> str:
    year, month = int(period[:4]), int(period[5:])
    return f"{year + month // 12:04d}-{month % 12 + 1:02d}"


def first_day(period: str) -> date:
    return date(int(period[:4]), int(period[5:]), 1)
