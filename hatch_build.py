"""Puts run.py and settings.py into the wheel's `signal_keystore`: pyproject.toml can only move whole folders."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ModulesOfTheProgram(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the two modules to a wheel. An editable installation imports them from the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"] |= {f"{name}.py": f"signal_keystore/{name}.py" for name in ("run", "settings")}
