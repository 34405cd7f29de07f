"""Each row of the table of bad inputs, the test that shows the reaction, and where the reaction is another one.

The table is D7 of the research on ZeroMQ and security that this project began with. It was made for an older sketch:
it speaks of TASKS, RESULTS, credit, data mode and REJECT. What counts is SPEC.md and ARCHITECTURE.md; `differs` says
so, row by row. Rows 37, 38, 46, 47 and 48 are about roles, keys and tokens: their tests are beside those.

Unless it says otherwise a test here has a real node, an honest job beside the attack and after it, the same process
alive at the end, and at most 32 MiB more memory at its height (place.py). test_rows.py sees that no row is missing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    number: int
    bad_input: str
    tests: tuple[str, ...]
    differs: str = ""
    """From the reaction in the table."""


HERE = "tests/hostile/"
STRANGERS = HERE + "test_strangers.py::"
FRAMES = HERE + "test_frames.py::"
INTRODUCTIONS = HERE + "test_introductions.py::"
WORK = HERE + "test_work.py::"
GOSSIP = HERE + "test_gossip.py::"
SURROUNDINGS = HERE + "test_surroundings.py::"
NEVER_ENDING = HERE + "test_never_ending.py::"
ROLES = "tests/real/test_roles.py::"
KEYS = "tests/transport/test_security.py::"
ALL_CASES = FRAMES + "test_what_is_no_message_is_counted_by_reason_and_ends_the_session"
NO_KICK = (
    "a ROUTER cannot end one connection: what comes over it is dropped, and its address is not shut "
    "out for 60 s, because many honest peers may share it"
)

ROWS = (
    Row(
        1,
        "connections that say nothing, half a handshake, an octet a moment",
        (STRANGERS + "test_what_stands_still_is_closed_and_its_descriptors_come_back",),
    ),
    Row(
        2,
        "HTTP, TLS, SSH at our port; our call at an HTTP port",
        (
            STRANGERS + "test_strange_octets_are_refused_at_once",
            STRANGERS + "test_our_own_call_at_an_http_port_says_so_and_tells_it_nothing",
        ),
    ),
    Row(
        3,
        "older ZMTP, NULL or PLAIN at a CURVE inbox",
        (STRANGERS + "test_strange_octets_are_refused_at_once",),
    ),
    Row(
        4,
        "wrong server key, unknown client key, a handshake once more",
        (
            STRANGERS + "test_another_server_key_is_refused_and_named",
            STRANGERS + "test_the_right_server_key_with_an_unknown_client_key_is_refused",
            STRANGERS + "test_a_handshake_that_was_overheard_is_worth_nothing",
            FRAMES + "test_forged_and_repeated_frames_are_not_heard",
        ),
    ),
    Row(
        5,
        "the gate (ZAP) fails, is slow, is not there",
        (
            STRANGERS + "test_without_its_gate_a_node_lets_nobody_in_and_works_on",
            STRANGERS + "test_a_slow_gate_holds_up_only_who_stands_at_it",
        ),
        "it fails closed and shows the traceback; it is not started again",
    ),
    Row(
        6,
        "a frame of 1 GiB or 2**63-1 before the handshake",
        (STRANGERS + "test_strange_octets_are_refused_at_once",),
    ),
    Row(
        7,
        "a frame beyond MAXMSGSIZE behind it",
        (
            FRAMES + "test_a_frame_that_is_too_large_ends_its_connection",
            FRAMES + "test_a_claim_behind_the_handshake_sets_nothing_aside",
        ),
    ),
    Row(
        8,
        "a message that never ends",
        (
            NEVER_ENDING
            + "test_a_message_that_never_ends_costs_what_was_said_and_goes_with_its_connection",
        ),
        "no alarm and no new inbox: a residual risk from holders of the key (docs/limits.md); it ends "
        "with the connection",
    ),
    Row(
        9,
        "100,000 parts in one message",
        (FRAMES + "test_too_many_parts_are_drained_and_not_kept",),
        NO_KICK,
    ),
    Row(
        10,
        "no frames, empty ones, a header one octet short or long",
        (ALL_CASES, FRAMES + "test_after_it_nothing_more_is_read"),
        NO_KICK,
    ),
    Row(
        11,
        "wrong magic, major, kind, flag",
        (ALL_CASES, FRAMES + "test_an_unknown_kind_is_dropped_and_the_link_goes_on"),
        "another major is quarantined like wrong magic: it cannot read a REFUSED of ours",
    ),
    Row(12, "not as many buffers as said", (ALL_CASES,), NO_KICK),
    Row(
        13,
        "routing ids of zeros, empty, too long, taken, libzmq's own next ones",
        (
            FRAMES + "test_routing_ids_are_nobody_s_name",
            FRAMES + "test_libzmq_s_next_automatic_ids_are_not_known_in_advance",
        ),
    ),
    Row(
        14,
        "talk before HELLO, a second HELLO, a WELCOME unasked",
        (
            INTRODUCTIONS + "test_who_has_not_introduced_itself_is_told_so",
            INTRODUCTIONS + "test_a_welcome_that_was_not_asked_for",
            INTRODUCTIONS + "test_a_second_hello_changes_nothing",
        ),
        "a second HELLO is answered with the same WELCOME: who lost the first one may ask again",
    ),
    Row(
        15,
        "HELLO for another mesh or process, from ourselves, from before, under a living one's id",
        (
            INTRODUCTIONS + "test_a_hello_that_is_not_for_this_node_is_refused_by_its_code",
            INTRODUCTIONS + "test_who_calls_itself_by_the_node_s_own_id_is_refused",
            INTRODUCTIONS + "test_an_introduction_from_before_comes_too_late",
            INTRODUCTIONS + "test_who_takes_an_honest_peer_s_id_is_refused",
            INTRODUCTIONS + "test_a_proof_lets_its_own_id_in_and_again",
        ),
    ),
    Row(
        16,
        "no common version; unknown codec only",
        (
            INTRODUCTIONS + "test_a_hello_that_is_not_for_this_node_is_refused_by_its_code",
            ALL_CASES,
        ),
        "codecs are not negotiated: an unknown one of a buffer is no message",
    ),
    Row(
        17,
        "another Python, another cloudpickle",
        (
            INTRODUCTIONS + "test_who_runs_another_python_joins_and_is_told_of_what_it_cannot_run",
            "tests/everyday/test_other_versions.py::test_a_node_with_another_version_says_so",
        ),
    ),
    Row(
        18,
        "numbers with gaps, twice, 0, 2**64-1; acknowledgements of what was not sent",
        (
            INTRODUCTIONS
            + "test_a_number_too_far_ends_the_session_and_one_that_came_before_is_acknowledged_again",
            INTRODUCTIONS + "test_an_acknowledgement_of_what_was_never_said_is_ignored",
            ALL_CASES,
        ),
        "an acknowledgement beyond what was sent is ignored (SPEC.md, section 7)",
    ),
    Row(
        19,
        "the same work twice",
        (INTRODUCTIONS + "test_the_same_grant_twice_runs_once",),
    ),
    Row(
        20,
        "results twice, and two different ones",
        (WORK + "test_of_two_different_results_the_first_counts",),
    ),
    Row(
        21,
        "results for unknown, foreign, cancelled work",
        (WORK + "test_of_two_different_results_the_first_counts",),
    ),
    Row(
        22,
        "work that nobody asked for, or too much of it",
        (
            WORK + "test_a_grant_that_nobody_asked_for_is_work_like_any_other",
            WORK + "test_work_of_another_s_job_is_not_taken",
            INTRODUCTIONS + "test_a_few_contradictions_end_the_session",
        ),
        "there is no credit: owners place work unasked; only who owns a job may",
    ),
    Row(
        23,
        "10,000 steals, huge and senseless ones",
        (
            WORK + "test_a_flood_of_steals_is_answered_and_costs_nobody_else",
            WORK + "test_a_steal_without_sense_is_no_message",
        ),
        "no token bucket: each steal costs its sender a message, and is answered NOTHING",
    ),
    Row(
        24,
        "a small STEAL for large work",
        (WORK + "test_of_two_different_results_the_first_counts",),
        "bounded by the share that a victim gives, not by credit",
    ),
    Row(
        25,
        "a peer that never acknowledges, never reads",
        (
            WORK + "test_results_that_are_never_acknowledged_end_an_owner_s_work",
            WORK + "test_who_asks_and_never_reads_is_told_no_more",
        ),
    ),
    Row(
        26,
        "a peer that stands still for 1 s, for 60 s",
        (GOSSIP + "test_a_node_that_stands_still_holds_up_nobody",),
    ),
    Row(27, "LZ4 garbage, bombs, wrong sizes", (ALL_CASES,), NO_KICK),
    Row(28, "msgpack garbage, depth, sizes, numbers", (ALL_CASES,), NO_KICK),
    Row(29, "wrong fields, types, shapes", (ALL_CASES,), NO_KICK),
    Row(
        30,
        "ranges reversed, overlapping, of 10**18 items, empty",
        (ALL_CASES, WORK + "test_a_job_of_all_numbers_is_never_laid_out"),
    ),
    Row(
        31, "lists of unequal length", (ALL_CASES,), "there are no columns: parts, blocks and blobs"
    ),
    Row(
        32,
        "arrays of objects, of wrong sizes and shapes",
        (WORK + "test_an_array_that_is_none_fails_by_name_and_kills_nothing",),
        "nodes open no values: the item fails in a worker, and the link goes on",
    ),
    Row(
        33,
        "a dict with the keys of msgpack-numpy",
        (WORK + "test_a_dict_that_looks_like_packed_numpy_stays_a_dict",),
    ),
    Row(
        34,
        "functions forged, unasked, unknown, large",
        (
            WORK + "test_a_function_under_another_s_name_is_not_taken",
            WORK + "test_a_function_of_12_mib_that_nobody_asked_for_is_let_go",
        ),
        "a function may have 255 MiB; what comes unasked is dropped when it is whole, and a link may hold "
        "256 MiB until then (docs/limits.md), so 100 MiB are more than this test's 32",
    ),
    Row(
        35,
        "pickles that raise, run on, exit, take all memory, print",
        (
            "tests/real/test_bad_input.py::test_a_task_that_exits",
            "tests/real/test_bad_input.py::test_a_task_that_raises_brings_its_own_exception_and_traceback",
            "tests/real/test_bad_input.py::test_a_task_that_takes_too_long",
            "tests/real/test_bad_input.py::test_a_task_that_wants_all_the_memory",
            "tests/everyday/test_hosts.py::test_prints_of_tasks_on_a_running_mesh_are_no_results",
        ),
    ),
    Row(
        36,
        "pickles in data mode, unknown functions",
        (WORK + "test_nothing_is_unpickled_in_a_node_s_own_process",),
        "there is no data mode yet; the audit hook is in the node that all rows attack",
    ),
    Row(
        37,
        "pickles of a role that may not submit, or before the introduction",
        (
            ROLES + "test_a_raw_client_tries_everything_that_its_role_may_not_say",
            ROLES + "test_a_raw_client_cannot_come_as_another_or_as_a_node",
        ),
    ),
    Row(
        38,
        "a view token that submits, supplies or cancels",
        (
            ROLES + "test_a_view_token_looks_and_does_nothing_else",
            ROLES + "test_a_raw_client_tries_everything_that_its_role_may_not_say",
        ),
    ),
    Row(
        39,
        "records: too many, senseless addresses, far future, we are dead",
        (
            GOSSIP + "test_a_record_without_sense_is_no_message",
            GOSSIP + "test_more_records_than_a_view_may_have",
            GOSSIP + "test_an_invented_member_costs_a_call_that_finds_nobody",
            GOSSIP + "test_a_record_from_the_far_future_is_not_believed",
            GOSSIP + "test_a_node_that_is_called_dead_says_that_it_lives",
            GOSSIP + "test_the_honest_program_called_dead_goes_on",
        ),
        "ipc:// and loopback are addresses here: what answers there has to introduce itself",
    ),
    Row(
        40,
        "pieces out of order, twice, beyond the size, unasked",
        (
            WORK + "test_pieces_out_of_order_end_the_session",
            WORK + "test_pieces_of_a_value_that_nobody_asked_for_are_dropped",
        ),
    ),
    Row(
        41,
        "a crash between accept, acknowledgement and execution",
        (
            "tests/real/test_deaths.py::test_three_of_four_nodes_die_one_after_the_other",
            "tests/real/test_deaths.py::test_few_tasks_run_twice",
            "tests/chaos/test_real.py::test_one_of_three_dies",
        ),
    ),
    Row(
        42,
        "a new process on a dead one's port",
        (
            INTRODUCTIONS + "test_a_hello_that_is_not_for_this_node_is_refused_by_its_code",
            "tests/transport/test_links.py::test_a_new_process_on_the_same_port_never_gets_old_mail",
        ),
    ),
    Row(
        43,
        "A hears B, B does not hear A",
        (
            "tests/namespaces/test_more_faults.py::test_a_node_that_hears_everybody_and_is_heard_by_nobody",
            "tests/namespaces/test_more_faults.py::test_the_program_s_own_host_is_heard_by_nobody",
        ),
    ),
    Row(
        44,
        "200 peers at once (here 100, at a fifth of the rate)",
        (INTRODUCTIONS + "test_a_herd_is_let_in_at_a_rate_and_the_rest_is_told_when",),
        "handshakes are not held to 16: introductions are let in at a rate",
    ),
    Row(
        45,
        "no descriptors left",
        (
            SURROUNDINGS + "test_out_of_descriptors_while_accepting",
            SURROUNDINGS + "test_out_of_descriptors_while_connecting",
            SURROUNDINGS + "test_too_few_descriptors_to_start_are_one_line",
        ),
    ),
    Row(
        46,
        "key files: modes, another owner, links, empty, damaged",
        (
            KEYS + "test_a_doubtful_file_is_refused_with_a_remedy",
            KEYS + "test_a_file_of_another_user_is_refused",
        ),
        "without a node: the file is refused before there is one; another owner is a patched number",
    ),
    Row(
        47,
        "tokens: mistyped, cut off, pasted with blanks",
        (
            KEYS + "test_what_is_no_token_is_named",
            KEYS + "test_a_token_survives_the_terminal",
            "tests/cli/test_tokens.py::test_every_typing_error_in_a_token_is_found",
            "tests/cli/test_real.py::test_a_damaged_token_is_wrong_usage",
        ),
    ),
    Row(
        48,
        "a public address without a key",
        ("tests/cli/test_real.py::test_no_open_doors_by_accident",),
    ),
    Row(
        49,
        "the clock jumps by a day",
        (SURROUNDINGS + "test_a_wall_clock_that_jumps_a_day_ends_nothing",),
        "the jump is a fake inside the node's process",
    ),
    Row(
        50,
        "a fork of a program that has a mesh",
        (
            "tests/everyday/test_forks.py::test_what_a_forked_child_does_is_its_own_business",
            "tests/transport/test_links.py::test_a_forked_child_is_told_so",
        ),
    ),
)
