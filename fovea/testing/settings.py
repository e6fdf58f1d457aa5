"""Rules of settings and constructors, the same for all kinds."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from pydantic import ValidationError

from fovea.config import ConfigError, Section, read_yaml, to_yaml, validate
from fovea.registry import RegistryError, component_class, config_class, lookup
from fovea.testing.rules import Broken, Rule, Subject, expect

_CODE = "import importlib, sys; importlib.import_module(sys.argv[1]); print('torch' in sys.modules)"


def keeps_its_interface(subject: Subject) -> None:
    """The class is a concrete subclass of its interface and has a Config."""
    try:
        component_class(subject.kind, subject.name)
        config_class(subject.kind, subject.name)
    except RegistryError as error:
        raise Broken(str(error)) from error


def takes_the_documented_arguments(subject: Subject) -> None:
    """The constructor takes the config first, then what is documented, by keyword only."""
    parameters = inspect.signature(component_class(subject.kind, subject.name)).parameters
    first, *others = parameters.values()
    expect(first.kind is first.POSITIONAL_OR_KEYWORD, f"its first parameter is {first}")
    known = {one.name for one in others if one.kind is one.KEYWORD_ONLY} & set(subject.sizes)
    missing = sorted(set(subject.sizes) - known)
    expect(not missing, f"it does not take {', '.join(missing)} by keyword only")
    more = [one.name for one in others if one.default is one.empty and one.name not in known]
    expect(not more, f"it also asks for {', '.join(more)}")


def has_valid_settings(subject: Subject) -> None:
    """The settings given to the check are valid."""
    subject.config()


def describes_its_settings(subject: Subject) -> None:
    """Every setting has a description."""
    bare = sorted(_bare(config_class(subject.kind, subject.name)))
    expect(not bare, f"{', '.join(bare)} has none")


def freezes_its_settings(subject: Subject) -> None:
    """Settings cannot be changed once they are made."""
    config = subject.config()
    for key in type(config).model_fields:
        try:
            setattr(config, key, getattr(config, key))
        except ValidationError:
            continue
        raise Broken(f"{key} can")


def refuses_unknown_settings(subject: Subject) -> None:
    """A setting that it does not have is refused."""
    try:
        config = config_class(subject.kind, subject.name)
        validate(config, {**subject.settings, "no_such_key": 1})
    except ConfigError:
        return
    raise Broken("no_such_key=1 is taken")


def writes_its_settings(subject: Subject) -> None:
    """Settings that are written as YAML and read again are equal."""
    config = subject.config()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "settings.yaml"
        file.write_text(to_yaml(config), encoding="utf-8")
        again = validate(type(config), read_yaml(file))
    expect(again == config, f"{config!r} became {again!r}")


def checks_settings_without_torch(subject: Subject) -> None:
    """The module that its Config is registered from imports no torch."""
    address = lookup(subject.kind, subject.name).config
    if address is None:
        return
    module = address.partition(":")[0]
    code = [sys.executable, "-c", f"import sys; sys.path = {sys.path!r}; {_CODE}", module]
    done = subprocess.run(code, capture_output=True, text=True)
    expect(done.returncode == 0, f"{module} cannot be imported: {done.stderr[-300:]}")
    expect("True" not in done.stdout.split(), f"{module} does")


def _bare(section: type[Section], where: str = "") -> Iterator[str]:
    """Name the settings without a description, those of sections below it too."""
    for key, info in section.model_fields.items():
        if not info.description:
            yield where + key
        for option in (info.annotation, *get_args(info.annotation)):
            if isinstance(option, type) and issubclass(option, Section):
                yield from _bare(option, f"{where}{key}.")


RULES: tuple[Rule[Subject], ...] = (
    keeps_its_interface,
    takes_the_documented_arguments,
    has_valid_settings,
    describes_its_settings,
    freezes_its_settings,
    refuses_unknown_settings,
    writes_its_settings,
    checks_settings_without_torch,
)
