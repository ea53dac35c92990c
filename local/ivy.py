"""Talking to the Ivy that pyspark ships. Belongs here: its files and command line. Does not: what we need.

No repository's address is written here: Ivy's own default is Maven Central.
"""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import quoteattr

from local.errors import JarError
from local.java import find_java
from local.lockfile import Coordinate

# An @ separates the parts: no coordinate contains one, so that a file's name can be read back.
_PATTERN = "[organisation]@[artifact]@[revision](@[classifier]).[ext]"
_MODULE = """<ivy-module version="2.0" xmlns:m="http://ant.apache.org/ivy/maven">
  <info organisation="paywave" module="jars" revision="1"/>
  <configurations><conf name="default"/></configurations>
  <dependencies>
{dependencies}
{exclusions}
  </dependencies>
</ivy-module>
"""
_SETTINGS = """<ivysettings>
  <settings defaultResolver="central"/>
  <caches defaultCacheDir={cache}/>
  <resolvers>
    <ibiblio name="central" m2compatible="true" usepoms="{poms}" checksums="{checksums}"/>
  </resolvers>
</ivysettings>
"""


def pyspark_jars() -> Path:
    """The folder of jars that pyspark ships. Raises JarError if pyspark is not installed."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or not spec.submodule_search_locations:
        raise JarError("pyspark is not installed, and Ivy comes with it", hint="run `make setup`")
    return Path(spec.submodule_search_locations[0]) / "jars"


def retrieve(
    wanted: Iterable[Coordinate], work: Path, *, transitive: bool, exclude: Sequence[str] = ()
) -> dict[Coordinate, Path]:
    """Download jars into `work`; with `transitive` also what they depend on. Raises JarError.

    Without it one request per jar is made: no metadata, no checksums, since the lock has the better ones.
    """
    work.mkdir(parents=True, exist_ok=True)
    settings, module = work / "ivysettings.xml", work / "ivy.xml"
    flags = {"poms": str(transitive).lower(), "checksums": "sha1" if transitive else ""}
    settings.write_text(_SETTINGS.format(cache=quoteattr(str(work / "cache")), **flags))
    module.write_text(module_xml(wanted, transitive=transitive, exclude=exclude))
    _run(settings, module, work / "out" / _PATTERN)
    return {_coordinate(path): path for path in (work / "out").iterdir()}


def module_xml(wanted: Iterable[Coordinate], *, transitive: bool, exclude: Sequence[str] = ()) -> str:
    """The ivy.xml that asks for `wanted`; `exclude` holds group:name globs."""
    by_module = groupby(sorted(wanted), key=lambda c: (c.group, c.name, c.version))
    dependencies = [_dependency(*key, list(group), transitive) for key, group in by_module]
    exclusions = [
        f'    <exclude org={quoteattr(group)} module={quoteattr(name)} matcher="glob"/>'
        for group, name in (rule.split(":") for rule in exclude)
    ]
    return _MODULE.format(dependencies="\n".join(dependencies), exclusions="\n".join(exclusions))


def _dependency(group: str, name: str, version: str, files: list[Coordinate], transitive: bool) -> str:
    artifacts = "".join(
        f"<artifact name={quoteattr(name)} type={quoteattr(file.ext)} ext={quoteattr(file.ext)}"
        + (f" m:classifier={quoteattr(file.classifier)}/>" if file.classifier else "/>")
        for file in files
    )
    conf = "default-&gt;master,runtime" if transitive else "default-&gt;*"
    return (
        f"    <dependency org={quoteattr(group)} name={quoteattr(name)} rev={quoteattr(version)} "
        f'conf="{conf}" transitive="{str(transitive).lower()}">{artifacts}</dependency>'
    )


def _run(settings: Path, module: Path, pattern: Path) -> None:
    command = [str(find_java().path), "-XX:TieredStopAtLevel=1", "-cp", _class_path(), "org.apache.ivy.Main"]
    command += ["-settings", str(settings), "-ivy", str(module), "-confs", "default"]
    done = subprocess.run(
        [*command, "-retrieve", str(pattern)],
        capture_output=True,
        text=True,
        check=False,
        cwd=settings.parent,
    )
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
        problems = [line for line in said if "not found" in line.lower() or "error" in line.lower()]
        raise JarError(
            "jars could not be downloaded:\n  " + "\n  ".join((problems or said)[-8:]),
            hint="check the network (or the proxy in JAVA_TOOL_OPTIONS) and run it again",
        )


def _class_path() -> str:
    shipped = pyspark_jars()
    # oro is what Ivy matches globs with.
    jars = [next(shipped.glob(f"{name}-*.jar"), None) for name in ("ivy", "oro")]
    if None in jars:
        raise JarError(f"there is no ivy and oro jar in {shipped}", hint="run `make setup` again")
    return ":".join(map(str, jars))


def _coordinate(path: Path) -> Coordinate:
    group, name, version, *classifier = path.name.removesuffix(path.suffix).split("@")
    return Coordinate(group, name, version, "".join(classifier), path.suffix[1:])
