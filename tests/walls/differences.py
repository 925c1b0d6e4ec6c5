"""What of the tests of containers does not hold in a virtual machine, one by one, and why."""

STATUS = "the monitor's /proc/self/status has no capabilities, groups, signals and filters"
LEFT_OUT = "refused by name: docs/isolation.md"
CONSOLE = "/dev is made by the monitor, without /dev/console and the names of terminals"
FILTER = "the filter is about the monitor's calls, not about the program's"

# test, with its parameters where only some differ -> reason
DIFFERENCES = {
    "test_exec_has_the_identity_of_the_first_process": STATUS,
    "test_the_filter_applies_to_exec_without_no_new_privileges": STATUS,
    "test_exec_runs_in_the_containers_pid_namespace_and_root": "a VM has processes of its own",
    "test_the_flags_of_exec_have_their_effect[-g 10 -g 11--]": STATUS,
    "test_the_flags_of_exec_have_their_effect[--no-new-privs--]": STATUS,
    "test_the_flags_of_exec_have_their_effect[--cap CAP_SYS_TIME--]": STATUS,
    "test_exec_runs_the_process_of_a_file": STATUS,
    "test_a_detached_exec_writes_its_pid_and_keeps_running": "a VM has processes of its own",
    "test_exec_can_run_in_a_cgroup_below_the_containers": "its cgroups cannot be opened in a VM",
    "test_exec_enters_a_container_without_pid_and_mount_namespaces": LEFT_OUT,
    "test_exec_preserves_the_requested_descriptors_alone": LEFT_OUT,
    "test_a_process_without_capabilities_gets_the_containers": STATUS,
    "test_exec_runs_on_the_cpus_that_it_requests": "a VM has one processor, number 0",
    "test_the_pid_of_an_exec_is_right_however_late_it_is_taken_over": (
        "the pid is awaited by a bare process, which a monitor is not"
    ),
    "test_hooks_receive_the_state_and_run_in_their_namespaces": (
        "the state of --isolation has an annotation"
    ),
    "test_early_hooks_can_reach_the_namespaces_by_the_pid_in_the_state": (
        "programs in a VM have no network"
    ),
    "test_hooks_on_the_host_get_no_descriptor_of_the_caller": LEFT_OUT,
    "test_without_a_pid_namespace_sigkill_reaches_every_process": (
        "processes of a VM end with its first one"
    ),
    "test_run_works_for_a_caller_that_ignores_a_signal": STATUS,
    "test_the_program_starts_with_default_signals": STATUS,
    "test_the_state_has_what_the_schema_requires": "the state of --isolation has an annotation",
    "test_a_filter_that_forbids_signal_handlers_does_not_prevent_start": FILTER,
}
# these would wait for what does not come, or leave something open when they fail
NEVER = {
    "test_run_forwards_a_signal[39]": "monitors tell each other by this signal",
    "test_the_console_socket_receives_the_terminals_master": CONSOLE,
    "test_a_terminal_works_in_a_dev_that_is_a_read_only_path": CONSOLE,
    "test_exec_sends_its_terminal_to_the_console_socket": CONSOLE,
}
