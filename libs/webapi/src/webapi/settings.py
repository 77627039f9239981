"""Typed settings from the environment: one prefix per service, unknown names refused, secrets never shown."""

import base64
import binascii
import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, AwareDatetime, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

MASK = "***"


class SettingsError(Exception):
    """The environment does not fit the settings; one line per name, none of them with a value."""


class ServiceSettings(BaseSettings):
    """What all services share. A subclass sets `env_prefix="OMS_<SERVICE>_"` and adds its own fields.

    Every field carries its unit in its name and its reason in the docstring below it; a secret has no default.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, case_sensitive=False, env_ignore_empty=False
    )

    database_url: SecretStr
    """`postgresql://user:password@host:port/database`; a secret, because it carries one."""
    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    """Brokers to ask first, `host:port` separated by commas."""
    topic_prefix: str = Field(default="", pattern=r"^[a-zA-Z0-9.-]{0,60}$")
    """Put before every topic and group, so that several systems can share one Kafka."""
    order_partitions: int = Field(default=24, ge=1, le=1000)
    """Partitions of every order-keyed topic: the most workers one service can have. Frozen for life; 4 on one small machine."""
    http_host: str = "127.0.0.1"
    """Loopback unless somebody decides otherwise; containers set 0.0.0.0."""
    http_port: int = Field(default=8000, ge=0, le=65535)
    """Where API, health and metrics are served; 0 takes a free port."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """INFO tells starts, stops and faults; nothing per record."""
    api_keys_file: Path | None = None
    """JSON list of {principal, key_sha256, roles}. Without it nobody may call the API."""
    crash_at: str = ""
    """A named point at which the process dies, for tests only; empty in production."""
    clock_offset_seconds: float = Field(default=0.0, ge=-86_400, le=86_400)
    """Added to the machine's clock, to see what a wrong one does. For tests only; 0 in production."""
    shutdown_seconds: float = Field(default=25.0, gt=0, le=600)
    """From SIGTERM to the end at the latest: inside Kubernetes' grace period of 30 s."""
    migrations_folder: Path | None = None
    """Where `env.py` and `versions/` are, if not beside the package's source."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name, info in cls.model_fields.items():
            if not info.description:
                raise TypeError(f"{cls.__name__}.{name}: say in a docstring below it why it has this value")
            if _is_secret(info) and not info.is_required() and info.default is not None:
                raise TypeError(f"{cls.__name__}.{name}: a secret has no default")

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith("postgresql://"):
            raise ValueError("must start with postgresql://")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings  # No .env file that one process finds and the next one does not.

    @classmethod
    def prefix(cls) -> str:
        return cls.model_config["env_prefix"].upper()

    @classmethod
    def load(cls) -> Self:
        """Read the environment; `SettingsError` names what is missing, wrong or unknown."""
        cls.check_names(os.environ)
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError("\n".join(_complaints(cls.prefix(), error))) from None

    @classmethod
    def load_for_migration(cls) -> "ServiceSettings":
        """Only what `--migrate` needs: a job that migrates holds no other secret than the database's."""
        cls.check_names(os.environ)
        try:
            return ServiceSettings(_env_prefix=cls.prefix())
        except ValidationError as error:
            raise SettingsError("\n".join(_complaints(cls.prefix(), error))) from None

    @classmethod
    def check_names(cls, environment: Mapping[str, str]) -> None:
        """Refuse names that start like ours and mean nothing: a typing slip must not silently leave a default in force."""
        known = {f"{cls.prefix()}{name.upper()}" for name in cls.model_fields}
        unknown = sorted(name for name in environment if name.upper().startswith(cls.prefix()) and name.upper() not in known)
        if unknown:
            raise SettingsError("\n".join(_unknown(name, known) for name in unknown))

    def shown(self) -> str:
        """Every name and value, one a line, as environment variables; secrets masked."""
        return "\n".join(
            f"{self.prefix()}{name.upper()}={_shown(getattr(self, name))}  # {' '.join((info.description or '').split())}"
            for name, info in type(self).model_fields.items()
        )


KEY_BYTES = 32


def key_bytes(secret: SecretStr) -> bytes:
    """The 32 bytes of a key given in base64.

    Errors: ValueError that never shows the key.
    """
    try:
        key = base64.b64decode(secret.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"must be {KEY_BYTES} bytes in base64, as `openssl rand -base64 32` prints")
    return key


def _is_key(secret: SecretStr) -> SecretStr:
    key_bytes(secret)
    return secret


Key = Annotated[SecretStr, AfterValidator(_is_key)]
"""A setting that holds a 256-bit key in base64; `key_bytes` gives the bytes."""


def masked_url(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    login, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login.partition(':')[0]}:{MASK}@{host}"))


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return masked_url(text) if re.match(r"[a-z+]+://[^@]*@", text) else MASK
    if value is None:
        return ""
    return masked_url(str(value)) if "://" in str(value) else str(value)


def _is_secret(info: FieldInfo) -> bool:
    return "Secret" in str(info.annotation)


def _unknown(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name.upper(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else "see --print-settings for the known ones."
    return f"{name}: unknown setting; {hint}"


def _complaints(prefix: str, error: ValidationError) -> list[str]:
    complaints = []
    for item in error.errors(include_input=False, include_url=False):
        name = f"{prefix}{'.'.join(map(str, item['loc'])).upper()}"
        complaints.append(f"{name}: " + ("is required" if item["type"] == "missing" else item["msg"]))
    return complaints


class EventSettings(ServiceSettings):
    """What a service needs besides when it reads topics."""

    seal_key: Key
    """Seals parked and quarantined records: what cannot be read may hold anything. 32 bytes in base64; each service's own."""
    event_source: Annotated[str, Field(pattern=r"^/[a-z0-9/_-]{1,60}$")] | None = None
    """`ce_source`; None is "/<service>". A database restored from a backup gets a new one, "/<service>/2": docs/restore.md."""
    replay_until: AwareDatetime | None = None
    """After a restore, the moment of the loss in RFC 3339: up to it, topics are read merged by time. Empty otherwise."""
