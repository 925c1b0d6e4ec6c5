"""
Is a configuration valid? The rules beyond the type of a single value, in the order of config.json.

Pure: nothing here looks at the host. What depends on the host (whether a file exists, a controller
is available, a namespace is the host's own) is checked by the plan. Source: config.md.
"""

from __future__ import annotations

from . import linux_rules, names, process_rules
from .annotations import HANDLER
from .problem import absolute, keyed, problem, under
from .records import HOOK_KINDS, Linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..errors import SpecError
    from .problem import Problems
    from .records import Hook, Mount, Process, Resources, Spec

_HOSTNAME_BYTES = 64  # __NEW_UTS_LEN: sethostname(2)


def check(spec: Spec) -> None:
    """Raise SpecError for the first problem of the configuration."""
    for error in _problems(spec):
        raise error


def problems(spec: Spec) -> list[SpecError]:
    """Everything that is wrong with the configuration, in order."""
    return list(_problems(spec))


def check_process(process: Process, linux: Linux | None = None) -> None:
    """Raise SpecError for the first problem of a process for `exec` in a container."""
    for error in process_rules.problems(process):
        raise error
    if linux is not None and linux.uidMappings:
        from . import mapping_rules

        for error in mapping_rules.of_process(process, linux):
            raise error


def check_resources(resources: Resources) -> None:
    """Raise SpecError for the first problem of limits for `update`."""
    from . import resource_rules

    for error in resource_rules.problems(resources):
        raise error


def unknown_capabilities(process: Process) -> list[str]:
    """The names that are not capabilities: a warning, not an error (config.md, Process)."""
    sets = process.capabilities
    if sets is None:
        return []
    named = sets.bounding + sets.effective + sets.inheritable + sets.permitted + sets.ambient
    return [name for name in dict.fromkeys(named) if name not in names.CAPABILITIES]


def _problems(spec: Spec) -> Problems:
    linux = spec.linux or Linux(at="linux")
    yield from _version(spec)
    yield from _root(spec)
    yield from _host_names(spec)
    for mount in spec.mounts:
        yield from _mount(mount)
    if spec.process is not None:
        yield from process_rules.problems(spec.process)
    yield from _hooks(spec)
    yield from _annotations(spec)
    yield from linux_rules.problems(linux)
    if _maps_ids(spec, linux):
        from . import mapping_rules

        yield from mapping_rules.problems(spec, linux)
    if linux.sysctl:
        from . import sysctl

        yield from sysctl.problems(spec, linux)
    yield from linux_rules.missing_namespaces(spec, linux)


def _maps_ids(spec: Spec, linux: Linux) -> bool:
    """Whether a configuration has a user namespace, or mounts that map ids."""
    return bool(
        linux.uidMappings
        or linux.gidMappings
        or any(namespace.type == "user" for namespace in linux.namespaces)
        or any(mount.uidMappings or mount.gidMappings for mount in spec.mounts)
        or any("idmap" in option for mount in spec.mounts for option in mount.options)
    )


def _version(spec: Spec) -> Problems:
    at, version = under(spec, "ociVersion"), spec.ociVersion
    if not _is_semantic(version):
        remedy = f"write it as {names.OCI_VERSION}"
        yield problem(at, "is not a semantic version (semver.org)", remedy, version)
    elif version.partition(".")[0] != "1":
        remedy = f"use {names.OCI_VERSION_MIN} to {names.OCI_VERSION}, or a later 1.x"
        yield problem(at, "is not supported", remedy, version)


def _is_semantic(version: str) -> bool:
    """Whether this is SemVer 2.0.0: MAJOR.MINOR.PATCH[-PRERELEASE][+BUILD]."""
    version, plus, build = version.partition("+")
    core, dash, pre = version.partition("-")
    numbers, builds, pres = core.split("."), build.split("."), pre.split(".")
    return (
        len(numbers) == 3
        and all(map(_is_number, numbers))
        and (not plus or all(map(_is_identifier, builds)))
        and (
            not dash
            or all(_is_identifier(p) and (not p.isdecimal() or _is_number(p)) for p in pres)
        )
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and (text == "0" or text[0] != "0")


def _is_identifier(text: str) -> bool:
    return text.isascii() and text.replace("-", "x").isalnum()


def _root(spec: Spec) -> Problems:
    if spec.root is None:
        yield problem(under(spec, "root"), "is required but missing", "add the path of the rootfs")


def _host_names(spec: Spec) -> Problems:
    for key, name in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if name and len(name.encode()) > _HOSTNAME_BYTES:
            why = f"is longer than {_HOSTNAME_BYTES} bytes"
            yield problem(under(spec, key), why, "choose a shorter one", name)


def _mount(mount: Mount) -> Problems:
    """
    The problems of one mount; the plan knows which options exist.

    A relative destination is deprecated, not wrong: it means one below /.
    """
    options = set(mount.options)
    if not mount.source and {"bind", "rbind"} & options and "remount" not in options:
        remedy = "set it to the path to bind"
        yield problem(under(mount, "source"), "is missing from a bind mount", remedy)


def _hooks(spec: Spec) -> Problems:
    for kind in HOOK_KINDS if spec.hooks else ():
        for hook in getattr(spec.hooks, kind):
            yield from _hook(hook)


def _hook(hook: Hook) -> Problems:
    yield from absolute(under(hook, "path"), hook.path)
    yield from process_rules.environment(hook)
    if hook.timeout is not None and hook.timeout <= 0:
        remedy = "set it to a number of seconds, or leave it out to wait forever"
        yield problem(under(hook, "timeout"), "is not greater than 0", remedy, hook.timeout)


def _annotations(spec: Spec) -> Problems:
    if "" in spec.annotations:
        at = keyed(under(spec, "annotations"), "")
        yield problem(at, "has an empty name", "use a name such as org.example.key")
    if handler := spec.annotations.get(HANDLER):
        at = keyed(under(spec, "annotations"), HANDLER)
        why = "requests a handler of crun, which pycontain does not have"
        yield problem(at, why, "use crun, or remove it", handler)
