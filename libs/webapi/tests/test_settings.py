"""Settings that cannot be misspelt, and never tell a secret."""

import pytest
from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from webapi.settings import ServiceSettings, SettingsError, masked_url

URL = "postgresql://oms:p4ss@db:5432/oms_sample"


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_SAMPLE_")

    seal_key: SecretStr
    """Opens what was sealed."""
    sweep_seconds: int = 5
    """How often; p95 of a sweep is 40 ms."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMS_SAMPLE_DATABASE_URL", URL)
    monkeypatch.setenv("OMS_SAMPLE_SEAL_KEY", "s3cret")


def test_settings_come_from_the_services_own_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a neighbour's settings leak in, or a name is read without prefix."""
    monkeypatch.setenv("OMS_OTHER_HTTP_PORT", "1")
    monkeypatch.setenv("HTTP_PORT", "2")
    monkeypatch.setenv("OMS_SAMPLE_ORDER_PARTITIONS", "4")
    settings = Settings.load()
    assert (settings.http_port, settings.order_partitions, settings.http_host) == (8000, 4, "127.0.0.1")


def test_an_unknown_name_is_refused_with_the_nearest_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a typing slip silently leaves a default in force."""
    monkeypatch.setenv("OMS_SAMPLE_SWEEP_SECOND", "9")
    with pytest.raises(SettingsError, match=r"OMS_SAMPLE_SWEEP_SECOND: .*did you mean OMS_SAMPLE_SWEEP_SECONDS\?"):
        Settings.load()
    with pytest.raises(SettingsError):
        Settings.load_for_migration()


def test_wrong_and_missing_values_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when an error message repeats a secret, or does not say which name is wrong."""
    monkeypatch.delenv("OMS_SAMPLE_SEAL_KEY")
    monkeypatch.setenv("OMS_SAMPLE_DATABASE_URL", "mysql://oms:p4ss@db")
    monkeypatch.setenv("OMS_SAMPLE_HTTP_PORT", "p4ss")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    text = str(caught.value)
    assert "OMS_SAMPLE_SEAL_KEY: is required" in text
    assert "OMS_SAMPLE_DATABASE_URL: " in text
    assert "OMS_SAMPLE_HTTP_PORT: " in text
    assert "p4ss" not in text


def test_shown_settings_mask_secrets_and_passwords_in_urls() -> None:
    """Fails when --print-settings becomes a way to read secrets."""
    shown = Settings.load().shown()
    assert "OMS_SAMPLE_DATABASE_URL=postgresql://oms:***@db:5432/oms_sample  #" in shown
    assert "OMS_SAMPLE_SEAL_KEY=***  # Opens what was sealed." in shown
    assert "p4ss" not in shown
    assert "s3cret" not in shown
    assert masked_url("http://127.0.0.1:8001/x") == "http://127.0.0.1:8001/x"
    assert "p4ss" not in masked_url("redis://:p4ss@db/0")


def test_migrating_needs_the_database_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a migration job must be given secrets that it has no use for."""
    monkeypatch.delenv("OMS_SAMPLE_SEAL_KEY")
    assert Settings.load_for_migration().database_url.get_secret_value() == URL


def test_a_setting_without_a_reason_or_a_secret_with_a_default_is_refused() -> None:
    """Fails when numbers appear that nobody can explain."""
    with pytest.raises(TypeError, match="docstring"):

        class Unexplained(ServiceSettings):
            batch_rows: int = 5

    with pytest.raises(TypeError, match="no default"):

        class Careless(ServiceSettings):
            token: SecretStr = SecretStr("x")
            """A secret."""
