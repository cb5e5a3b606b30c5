"""Reads a pod's configuration file."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from cycle_server.errors import BadInputError

Config = TypeVar("Config", bound=BaseModel)


def read_config(path: Path, model: type[Config]) -> Config:
    """Raises BadInputError that names the file and the first wrong field."""
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}", reason="BadConfiguration") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"{path}: {field}: {first['msg']}", reason="BadConfiguration", field=field) from error
