"""
From a checked configuration to the list of steps that bring the container up.

`build` is pure: the same spec, request and facts give the same list, without root and without a
kernel. `all_steps` shows what happens to a container, in order. The steps of the parent and of the
child are in one list, which is then divided into turns (`plan.walk`).
"""

from __future__ import annotations

from ..errors import SpecError
from ..kernel import const as c
from ..lean import os
from ..lean.record import Record
from ..spec.annotations import KEEP_GROUPS
from ..spec.records import Linux, Process, Spec
from . import devices, mounts, process, steps, vfork
from .device_filter import DEFAULT_RULES, program
from .namespaces import Namespaces
from .walk import Turn, turns_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Hook, Hooks, Resources
    from .facts import Facts
    from .request import Request
    from .resources import Setting


_DOMAINNAME = "kernel/domainname"
_HOOKS_BEFORE = ("prestart", "createRuntime", "createContainer", "startContainer")


class Plan(Record):
    """
    Everything that will be done, in order.

    turns     of parent and child, up to the program
    rootfs    the absolute path of the root file system, on the host
    warnings  what the configuration requests but cannot be granted, where that is not an error
    """

    turns: tuple[Turn, ...]
    rootfs: str
    warnings: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[steps.Step, ...]:
        """All steps, in order."""
        return tuple(step for turn in self.turns for step in turn.steps)

    def describe(self) -> list[dict[str, str]]:
        """The steps as text: side, name, what and why."""
        return [
            {"side": step.side, "name": step.name, "what": step.what(), "why": step.why}
            for step in self.steps
        ]


def build(spec: Spec, request: Request, facts: Facts) -> Plan:
    """The plan for a bundle. Raises SpecError for what cannot be planned."""
    if spec.root is None:
        raise SpecError("is required but missing", at="root")
    linux = spec.linux or Linux(at="linux")
    rootfs = os.path.normpath(os.path.join(request.bundle, spec.root.path))
    builder = _Builder(spec, linux, request, facts, rootfs)
    return Plan(
        turns=turns_of(builder.all_steps()), rootfs=rootfs, warnings=tuple(builder.warnings())
    )


class _Builder:
    """Builds the steps for one spec."""

    def __init__(
        self, spec: Spec, linux: Linux, request: Request, facts: Facts, rootfs: str
    ) -> None:
        if request.notify:
            from .sdnotify import with_socket

            spec = with_socket(spec, request.notify)
        self.spec = spec
        self.linux = linux
        self.request = request
        self.rootfs = rootfs
        self.namespaces = Namespaces(linux, named=bool(spec.hostname or spec.domainname))
        self.nested = facts.nested
        facts = facts.in_user_namespace() if self.namespaces.has_user else facts
        self.profile = process.filter_profile(linux)
        self.process, self.facts = spec.process or Process(at="process", cwd="/"), facts
        self.engine = request.engine(spec.annotations)
        if self.engine:
            from .isolation import check, check_container

            check(self.process, linux, request, self.profile)
            check_container(spec, request.notify)
        if KEEP_GROUPS in spec.annotations:
            from .groups import keeping_groups

            self.process, self.facts = keeping_groups(self.process, facts)
        self.own_mounts = self.namespaces.has(c.CLONE_NEWNS)
        own_cgroup = c.CLONE_NEWCGROUP in self.namespaces.new
        self.mounts, self.read_only_later = mounts.mount_steps(
            spec.mounts, request.bundle, own_cgroup, rootfs
        )
        if linux.mountLabel:
            from . import labels

            self.mounts = labels.mount_steps(self.mounts, linux.mountLabel, spec.annotations, facts)
        self.devices = devices.device_steps(
            linux.devices, self.mounts, bound=self.namespaces.has_user or facts.nested
        )
        self.bound = devices.bound_nodes(self.devices)
        protected = [mounts.plain(path) for path in linux.readonlyPaths]
        self.protected = tuple(path for path in dict.fromkeys(protected) if path != "/")
        if "/" in protected or (spec.root is not None and spec.root.readonly):
            self.read_only_later = (*dict.fromkeys((*self.read_only_later, "/")),)

    def warnings(self) -> list[str]:
        """What the configuration requests but cannot be granted."""
        return [
            *process.warnings(self.spec.process, self.facts),
            *mounts.warnings(self.mounts),
            *devices.warnings(self.linux.devices, self.mounts),
        ]

    def all_steps(self) -> list[steps.Step]:
        """All steps up to the container's program."""
        return [
            *self._prepare_host(),
            *self._enter_namespaces(),
            *self._build_root(),
            *self._run_early_hooks(),
            *self._write_sysctls(),
            *self._protect_paths(),
            *process.label_steps(self.process, self.facts),
            *self.namespaces.join_pids_steps(),
            *self._change_root(),
            *self._set_up_inside(),
            *self._become_process(),
            *self._become_program(),
        ]

    def _prepare_host(self) -> list[steps.Step]:
        planned: list[steps.Step] = [steps.Reserve(why="the id must be unique")]
        if self.request.notify:
            from .sdnotify import directory_step

            planned.append(directory_step(listens=not self.request.separate_start))
        before, after = self._cgroup_steps()
        planned += before
        if self.linux.intelRdt is not None:
            from .rdt import group_step

            planned.append(group_step(self.linux.intelRdt))
        if self.profile is not None:
            planned += process.filter_steps(self.profile)
        planned += self.namespaces.open_steps()
        planned += self.namespaces.device_steps(joined=True)
        if before and not after:
            planned += self._give_cgroup()
        planned += self._prepare_sources()
        if self.namespaces.has_user:
            planned += process.give_streams_steps(self.process, self.request.takes_files)
        if self.bound:
            planned.append(self._prepare_devices())
        planned += process.connect_steps(self.request.console_socket)
        if self.engine:
            from .isolation import monitor_step

            planned.append(monitor_step(self.engine))
        planned.append(self.namespaces.spawn(fork_because=self._why_fork(planned)))
        planned.append(steps.RecordPid(why="a container can always be deleted"))
        planned += after
        planned += self.namespaces.device_steps(joined=False)
        if self.linux.intelRdt is not None:
            from .steps.rdt import JoinRdtGroup

            planned.append(JoinRdtGroup(why="linux.intelRdt"))
        if (score := self.process.oomScoreAdj) is not None:
            planned.append(steps.AdjustOomScore(score=score, why="process.oomScoreAdj"))
        if self.namespaces.has_user:
            planned += process.outside_steps(self.process)
        return planned

    def _cgroup_steps(self) -> tuple[list[steps.Step], list[steps.Step]]:
        """The steps before the child exists, and after: systemd needs a process for a scope."""
        settings = _settings(self.linux.resources, self.spec.ociVersion)
        if not self.request.cgroup:  # then each limit is an error, or a warning
            why = "linux.resources"
            return [steps.LimitCgroup(settings=settings, why=why)] if settings else [], []
        limit, path = self._limit_steps(settings), self.linux.cgroupsPath
        if self.request.systemd:
            from . import systemd

            self._refuse_early_cgroup()
            before, start = systemd.unit_steps(self.spec, self.request, settings)
            return [before], [start, *limit, *self._give_cgroup()]
        make = steps.MakeCgroup(path=path, why="linux.cgroupsPath")
        return [make, *limit], []

    def _limit_steps(self, settings: tuple[Setting, ...]) -> list[steps.Step]:
        planned: list[steps.Step] = []
        if settings:
            planned.append(steps.LimitCgroup(settings=settings, why="linux.resources"))
        if self.nested:  # nobody may create a device there, nor load a filter: bpf(2)
            return planned
        rules = self.linux.resources.devices if self.linux.resources else ()
        code = program((*rules, *DEFAULT_RULES))
        filter_ = steps.FilterDevices(rules=rules, program=code, why="linux.resources.devices")
        return [*planned, filter_]

    def _refuse_early_cgroup(self) -> None:
        """Mounts of a user namespace are prepared before the child, the scope is started after."""
        for step in self.mounts:
            if isinstance(step, steps.MountCgroup) and self.namespaces.has_user:
                raise SpecError(
                    "needs a cgroup namespace, with a user namespace and the manager systemd",
                    at=step.why,
                    remedy='add {"type": "cgroup"} to linux.namespaces, or use cgroupfs',
                )

    def _prepare_sources(self) -> list[steps.Step]:
        """Clone what a child in a user namespace could not reach, and id-mapped mounts."""
        user = self.namespaces.has_user and c.CLONE_NEWNS in self.namespaces.new
        binds = tuple(
            step
            for step in self.mounts
            if isinstance(step, (steps.MountBind, steps.MountCgroup)) and (user or _maps_ids(step))
        )
        if not user and not binds:
            return []
        from .steps.idmap import PrepareMounts

        kind, _ = self._propagation()
        return [
            PrepareMounts(
                rootfs=self.rootfs if user else "",
                propagation=c.MS_PRIVATE if kind == c.MS_PRIVATE else c.MS_SLAVE,
                mounts=binds,
                why="linux.namespaces, mounts",
            )
        ]

    def _prepare_devices(self) -> steps.Step:
        """Device files for a user namespace, where mknod(2) is not permitted."""
        from .steps.idmap import PrepareDevices, TakeDevices

        kind = TakeDevices if self.nested else PrepareDevices
        return kind(nodes=self.bound, why="linux.devices and the defaults")

    def _why_fork(self, before: list[steps.Step]) -> str:
        limits = (step for step in before if isinstance(step, steps.LimitCgroup))
        return vfork.why_fork(
            vfork.Circumstances(
                request=self.request,
                hooks=tuple(hook for kind in _HOOKS_BEFORE for hook in self._hooks(kind)),
                process=self.process,
                profile=self.profile,
                namespaces=self.namespaces,
                limits=next(limits, None),
                mounts=tuple(self.mounts),
                engine=self.engine,
            )
        )

    def _give_cgroup(self) -> list[steps.Step]:
        """Only with a cgroup namespace and a writable mount can the user divide the cgroup."""
        uid = self.process.user.uid if self.process.user else 0
        namespaces, writable = self.namespaces, mounts.writable_cgroup(self.spec.mounts)
        is_hosts_root = uid == 0 and not namespaces.has_user
        if is_hosts_root or not writable or c.CLONE_NEWCGROUP not in namespaces.new:
            return []
        return [steps.GiveCgroup(uid=uid, why="config-linux.md, Cgroup ownership")]

    def _enter_namespaces(self) -> list[steps.Step]:
        planned: list[steps.Step] = [
            steps.Guard(
                preserve_fds=self.request.preserve_fds, why="the rootfs may hold hostile code"
            )
        ]
        if not self.request.no_new_keyring:
            planned.append(steps.JoinKeyring(why="the caller's keys stay private"))
        return planned + self.namespaces.enter_steps()

    def _build_root(self) -> list[steps.Step]:
        if not self.own_mounts:
            return [steps.OpenRoot(path=self.rootfs, why="root.path"), *self.devices]
        kind, recursive = self._propagation()
        root = steps.BindRoot(
            path=self.rootfs, propagation=kind, recursive=recursive, why="root.path"
        )
        return [root, *self.mounts, *self.devices]

    def _propagation(self) -> tuple[int, bool]:
        """(MS_*, recursive) of the child's whole tree."""
        kind, recursive = mounts.PROPAGATION[self.linux.rootfsPropagation or "rslave"]
        if kind == c.MS_UNBINDABLE:  # applied to the root later: here it would prevent the bind
            kind = c.MS_PRIVATE
        return kind, recursive

    def _hooks(self, kind: str) -> tuple[Hook, ...]:
        hooks: Hooks | None = self.spec.hooks
        return getattr(hooks, kind) if hooks else ()

    def _run_early_hooks(self) -> list[steps.Step]:
        planned: list[steps.Step] = [
            steps.RunHooks(kind=kind, hooks=hooks, why=f"hooks.{kind}")
            for kind in ("prestart", "createRuntime")
            if (hooks := self._hooks(kind))
        ]
        if hooks := self._hooks("createContainer"):
            why = "hooks.createContainer"
            planned.append(steps.RunContainerHooks(kind="createContainer", hooks=hooks, why=why))
        return planned

    def _change_root(self) -> list[steps.Step]:
        if not self.own_mounts:
            return [steps.ChangeDirectoryRoot(path=self.rootfs, why="no mount namespace")]
        kind, _ = mounts.PROPAGATION.get(self.linux.rootfsPropagation or "", (0, False))
        kind = kind or mounts.root_propagation(self.mounts)
        return [
            steps.ChangeRoot(pivot=not self.request.no_pivot, propagation=kind, why="root.path")
        ]

    def _write_sysctls(self) -> list[steps.Step]:
        """A user namespace can mount a private proc only while the host's is visible."""
        if not self.linux.sysctl:
            return []
        from ..spec import sysctl

        settings = tuple(
            (sysctl.path(name), value, f"linux.sysctl[{name}]")
            for name, value in self.linux.sysctl.items()
            # only the host's root may write to these two files
            if not (self.namespaces.has_user and sysctl.namespace(sysctl.path(name)) == "uts")
        )
        return [steps.WriteSysctls(settings=settings, why="linux.sysctl")] if settings else []

    def _domainname(self) -> str:
        """What linux.sysctl says, where the step `sysctl` cannot set it."""
        if not (self.namespaces.has_user and self.linux.sysctl):
            return ""
        from ..spec import sysctl

        values = self.linux.sysctl.items()
        return next((text for name, text in values if sysctl.path(name) == _DOMAINNAME), "")

    def _protect_paths(self) -> list[steps.Step]:
        if not self.own_mounts:
            return self._require_missing()
        planned = self._make_places()
        linux = self.linux
        if self.protected:
            planned.append(steps.ProtectPaths(paths=self.protected, why="linux.readonlyPaths"))
        if linux.maskedPaths:
            masked = dict.fromkeys(map(mounts.plain, linux.maskedPaths))  # as mount targets are
            planned.append(steps.MaskPaths(paths=tuple(masked), why="linux.maskedPaths"))
        return planned

    def _require_missing(self) -> list[steps.Step]:
        """Paths that do not exist are ignored, as always; covering one would change the host."""
        paths = tuple(
            (mounts.plain(path), f"linux.{key}[{index}]")
            for key in ("readonlyPaths", "maskedPaths")
            for index, path in enumerate(getattr(self.linux, key))
        )
        why = "linux.readonlyPaths, linux.maskedPaths without a mount namespace"
        return [steps.RequireMissing(paths=paths, why=why)] if paths else []

    def _make_places(self) -> list[steps.Step]:
        """After the hooks, which may mount; before anything is read-only."""
        cwd = self.process.cwd
        directories = (cwd,) if mounts.plain(cwd) != "/" else ()
        files = ("/dev/console",) if self.process.terminal else ()
        if not directories and not files:
            return []
        why = "process.cwd, process.terminal"
        return [steps.MakePlaces(directories=directories, files=files, why=why)]

    def _set_up_inside(self) -> list[steps.Step]:
        planned: list[steps.Step] = []
        spec = self.spec
        if self.process.terminal:
            # without a mount namespace /dev/console may be the host's own
            request = self.request
            planned.append(
                process.terminal_step(
                    self.process,
                    request.window,
                    request.plain,
                    console=self.own_mounts,
                    inside=self.namespaces.joins_pids,
                )
            )
        domainname = spec.domainname or self._domainname()
        if spec.hostname or domainname:
            planned.append(
                steps.SetHostname(
                    hostname=spec.hostname or "",
                    domainname=domainname,
                    why="hostname, domainname",
                )
            )
        return planned

    def _become_process(self) -> list[steps.Step]:
        read_only: list[steps.Step] = []
        if self.own_mounts and self.read_only_later:
            why = "nothing is left to be created there"
            places = {
                step.target: step.place()
                for step in self.mounts
                if isinstance(step, steps.MountStep) and step.target in self.read_only_later
            }
            read_only.append(
                steps.MakeReadOnly(targets=self.read_only_later, places=places, why=why)
            )
        return process.become_steps(
            self.process,
            self.linux,
            self.facts,
            self.profile,
            read_only=read_only,
            make_cwd=not self.own_mounts,  # else it was created before anything became read-only
            takes_files=self.request.takes_files,
            inside=self.namespaces.joins_pids,
        )

    def _become_program(self) -> list[steps.Step]:
        created: list[steps.Step] = []
        if self.namespaces.joins_pids:
            created += process.enter_steps(self.process, self.facts, self.profile)
            created.append(steps.RecordPid(why="from here on it is the container's first process"))
        if self.bound and not self.nested:
            from .steps.idmap import RemoveDevices

            created.append(RemoveDevices(count=len(self.bound), why="the mounts keep the devices"))
        created += process.hand_over_steps(self.request.pid_file, self.request.pidfd_socket)
        created.append(steps.Announce(why="runtime.md, Lifecycle 6"))
        if self.request.separate_start:
            created.append(steps.AwaitStart(why="the program must not run before start"))
        return [*created, *self._last_steps()]

    def _last_steps(self) -> list[steps.Step]:
        request = self.request
        before, after = process.last_steps(
            self.process,
            self.profile,
            request.preserve_fds,
            request.listen_fds,
            request.listen_names,
            inside=self.namespaces.joins_pids,
        )
        if hooks := self._hooks("startContainer"):
            why = "hooks.startContainer"
            before.append(steps.RunContainerHooks(kind="startContainer", hooks=hooks, why=why))
        if self.engine:
            from .isolation import last_step

            after[-1] = last_step(after[-1], self.engine, self.linux)
        return before + after


def _maps_ids(step: steps.Step) -> bool:
    return isinstance(step, steps.MountBind) and bool(step.maps)


def _settings(limits: Resources | None, version: str) -> tuple[Setting, ...]:
    if limits is None:
        return ()
    from . import resources

    return resources.files(resources.of_version(limits, version))
