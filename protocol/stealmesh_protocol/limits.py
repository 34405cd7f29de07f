"""How much of anything a peer accepts. Numbers only: who enforces each stands beside it.

A limit here is part of the protocol: any peer that sends more is refused, so both
sides must have the same figures (SPEC.md repeats them as a table, and a test compares the two).
What a node merely prefers (how many links, how long a lease) is the engine's Config.

Sizes are in octets. Ideas: the caps per kind of the ZeroMQ guide's file transfer example,
TigerBeetle's habit of putting a limit on everything.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# ---------------------------------------------------------------- frames (codec, transport)

FRAME_OCTETS_MAX = 2 * MIB
"""The transport's MAXMSGSIZE: libzmq closes a connection that announces a larger frame."""

HEADER_OCTETS = 28
"""What every message begins with."""

BUFFERS_MAX = 32
"""Buffer frames behind the first one; a message with more travels in pieces."""

INLINE_BLOB_OCTETS = 2 * KIB
"""A blob up to this size is cheaper to copy into the body than to send as a frame of its own."""

INLINE_OCTETS_MAX = BUFFERS_MAX * INLINE_BLOB_OCTETS
"""All blobs in one body together; a message with more travels in pieces."""

MESSAGE_BUFFER_OCTETS = 1 * MIB
"""All buffers of one multipart together: 9 ms at 1 Gb/s, which is what a beat may have to wait."""

PIECE_OCTETS = 256 * KIB
"""All pieces of a message but the last are exactly this long."""

BULK_OCTETS_MIN = 4 * KIB
"""Multiparts from this size on (all frames as they travel) are bulk, which waits for room on its link."""

TAKEN_OCTETS = 256 * KIB
"""A receiver says TAKEN when it has taken this much off the link since it last did."""

COUNTED_OCTETS_MIN = 2 * KIB
"""What takes less counts as this much, on both sides: 128 small messages are said to be TAKEN, too."""

MESSAGE_OCTETS_MAX = 256 * MIB
"""All blobs of a message that travels in pieces, and what one link may hold of an unfinished one."""

PIECES_MAX = MESSAGE_OCTETS_MAX // PIECE_OCTETS
"""Follows from the two above."""

BLOBS_MAX = 0xFFFF
"""Blobs that one message can take out of its body: the header counts them in 16 bits."""

BLOB_OCTETS_MAX = MESSAGE_OCTETS_MAX - 1 * MIB
"""What a program should refuse to ship as one value: it must fit a message with room to spare."""

VALUE_PIECE_OCTETS = 256 * KIB
"""The most of a value in one VALUE_PUT: one buffer, so that a beat waits for little."""

VALUE_ASK_OCTETS = 1 * MIB
"""The most that one VALUE_GET asks for."""

SEEN_OCTETS_MAX = 1 * MIB
"""Of what a peer says of a job or of its workers."""

# ---------------------------------------------------------------- bodies (codec)

SMALL_BODY_OCTETS = 16 * KIB
"""What may be said before both sides know each other, and messages without lists."""

CONTROL_BODY_OCTETS = 256 * KIB
"""Messages with lists that move no work: members, beats, status."""

WORK_BODY_OCTETS = 1 * MIB
"""The size of the unpacked body is the only bound on what decoding allocates (up to 20 times it, 40 for CONTROL)."""

LZ4_RATIO_MAX = 255
"""LZ4 cannot do better: a peer that claims more lies about the raw size."""

LZ4_SLACK_OCTETS = 64
"""What the shortest blocks may promise beyond that ratio."""

COMPRESS_BODY_OCTETS_MIN = 512
"""Smaller bodies are not worth the microsecond."""

COMPRESS_BULK_OCTETS_MIN = 16 * KIB
"""Smaller buffers are not worth sampling."""

COMPRESS_SAMPLES = 3
"""From the beginning, the middle and the end of a buffer."""

COMPRESS_SAMPLE_OCTETS = 4 * KIB
"""Of each sample."""

COMPRESS_SAMPLE_RATIO_MAX = 0.7
"""Samples that shrink less speak against compressing."""

COMPRESS_RATIO_MAX = 0.9
"""A result that shrank less is thrown away: unpacking costs, too."""

# ---------------------------------------------------------------- fields (codec.check)

SEQ_MAX = 2**63 - 1
"""Numbers and acknowledgements of custody messages."""

INDEX_MAX = 2**63 - 1
"""Items are counted up to here: sums of two indices still fit 64 bits."""

INCARNATION_MAX = 2**48
"""Of a member's record. An honest one adds 1 to refute a verdict, so this is never reached."""

INCARNATION_STEP_MAX = 2**32
"""A record that is further above the one that we know is a lie: the peer that refutes it needs room above."""

TERM_MAX = 2**31 - 1
"""Of a durable job's primary: with the number of a grant it makes a lease id of 63 bits."""

TERM_STEP_MAX = 2**16
"""A term that is further above the one that we know is a lie. An honest primary adds at most 48."""

NODES_MAX = 2**20
"""Of a mesh, as an observer tells a leaf."""

STEP_ITEMS_MAX = 2**40
"""Of one step of an explore bag, and in one bag: sums of many fit 64 bits."""

SECONDS_MAX = 1e11
"""Of anything that takes time, and of dates: sums of many are finite."""

MEMBERS_MAX = 256
"""In one WELCOME or VIEW."""

BUCKETS_MAX = 256
"""Digests of one view: one for each first octet of an id; fewer divide this number."""

ENDPOINTS_MAX = 16
"""Of one member."""

ENDPOINT_CHARS_MAX = 256
"""Of each endpoint."""

LIST_MAX = 16_384
"""Leases, parts, blocks, children, intervals, lease ids a job: of each, in one message."""

JOBS_MAX = 1024
"""Jobs that one beat speaks of."""

NAME_CHARS_MAX = 256
"""Names, hosts, builds, runtimes, codes."""

TEXT_CHARS_MAX = 4096
"""Reasons for people, and names of jobs, which users choose."""

FINGERPRINT_OCTETS_MAX = 64
"""Of the mesh key, in HELLO."""

PROOF_OCTETS_MAX = 256
"""Of the proof in HELLO."""

TOKEN_NAME_CHARS_MAX = 64
"""Of a token: letters, digits, dot, dash and underscore."""

BARRED_MAX = 1024
"""Names of revoked tokens. When there are more it is time for a new mesh key, which makes all of them void."""

WORKERS_MAX = 65_535
"""Of one node."""

RESOURCES_MAX = 32
"""Kinds of resources that one node declares, or one job asks for."""

RESOURCE_COUNT_MAX = 2**31 - 1
"""Of each of them."""

TEXTS_MAX = 1024
"""In one PRINTED."""

TEXT_OCTETS_MAX = 16 * KIB
"""What tasks printed: of each text, and of what goes with a failure."""

TEXTS_OCTETS_MAX = 64 * KIB
"""All texts of one PRINTED."""

REFS_ONLY = 1 << 62
"""More octets than any result has: of a job whose results stay from this size on, only the values of Refs in them do."""

NEEDS_MAX = 240
"""Values that one job or block names: a worker gets a descriptor of each, and 253 fit one packet."""

INPUTS_MAX = 64
"""Items that one block in a GRANT waits for: an item with more of them is not leased before it can run."""

STRANGERS_MAX = 256
"""Peers that one WHO_IS asks for."""

INPUTS_ASKED_MAX = 4096
"""Items whose results one INPUT_GET asks for."""

CALLS_INTO_MAX = 1024
"""Durable calls whose results go into one item of a durable job: its primary asks for each of them."""

ATTEMPTS_MAX = 1000
"""How many workers a job may allow one item to kill."""

TOGETHER_MAX = 10_000
"""Items of one job that one worker runs side by side."""

THREADS_MAX = 1000
"""Of one worker."""

DEFER_SECONDS_MAX = 86_400.0
"""For how long a task may put itself off at once. A day: what waits longer belongs into a calendar."""

DEFERS_MAX = 10_000
"""How often one task may put itself off: once a minute for a week. One that never ends is a defect."""

SEATS_MAX = 16
"""Keepers of a durable job."""

SEAT_OCTETS_MAX = 32
"""Of the name of a replica's store."""

JOURNAL_ENTRIES_MAX = 1024
"""In one JOURNAL_PAGE."""

JOURNAL_KINDS_MAX = 32
"""Kinds of entries that a journal may have; there are eight today."""

JOURNAL_OCTETS_MAX = 128 * KIB
"""The most that one JOURNAL_GET asks for: half of what a page may be."""

WORKER_NUMBER_MAX = 2**31 - 1
"""In an entry: processes of actors have numbers above those of workers, and none is used again."""

ENTRY_WORDS_CHARS_MAX = 80
"""Of an entry's `what` and `name`."""

ENTRY_DETAIL_CHARS_MAX = 240
"""Of an entry's `detail`, which is for people."""

# ---------------------------------------------------------------- values (values)

NDARRAY_DIMENSIONS_MAX = 32
"""What older versions of numpy can have."""

NDARRAY_ITEMS_MAX = 2**40
"""Product of the dimensions that are not 0: a shape like (0, 10**18) must not pass as harmless."""

TRACEBACK_CHARS_MAX = 32 * KIB
"""The middle of a longer one is left out."""

TRAILS_OCTETS_MAX = 48 * KIB
"""Of the frames of one failure."""
