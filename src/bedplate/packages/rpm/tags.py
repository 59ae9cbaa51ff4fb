"""Numbers of the RPM v4 format: tags, data types, file and dependency flags, limits.

Source: rpm's ``docs/manual/format*.md``, ``docs/manual/tags.md`` and ``docs/manual/dependencies.md``.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

LEAD_MAGIC: Final = b"\xed\xab\xee\xdb"
LEAD_SIZE: Final = 96
HEADER_MAGIC: Final = b"\x8e\xad\xe8\x01\x00\x00\x00\x00"

MAX_SIGNATURE_ENTRIES: Final = 64
MAX_SIGNATURE_BYTES: Final = 64 << 20
MAX_HEADER_ENTRIES: Final = 0xFFFF
MAX_HEADER_BYTES: Final = 256 << 20
MAX_FILES: Final = 1_000_000
MAX_UNPACKED_BYTES: Final = 8 << 30
"""What the files of one package may come to; far above any real one, far below a disk."""
MAX_DECODER_BYTES: Final = 256 << 20
"""Memory a decompressor may take for its window."""


class Type(IntEnum):
    """Data types of a header entry."""

    CHAR = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    STRING = 6
    BIN = 7
    STRING_ARRAY = 8
    I18NSTRING = 9


class SigTag(IntEnum):
    """Tags of the signature header."""

    REGION = 62
    DSA_HEADER = 267
    RSA_HEADER = 268
    SHA1_HEADER = 269
    LONG_SIZE = 270
    LONG_PAYLOAD_SIZE = 271
    SHA256_HEADER = 273
    FILE_SIGNATURES = 274
    FILE_SIGNATURE_LENGTH = 275
    VERITY_SIGNATURES = 276
    VERITY_SIGNATURE_ALGORITHM = 277
    OPENPGP = 278
    SHA3_256_HEADER = 279
    RESERVED = 999
    SIZE = 1000
    PGP = 1002
    MD5 = 1004
    GPG = 1005
    PAYLOAD_SIZE = 1007
    RESERVED_SPACE = 1008


SIGNATURE_TAGS: Final = frozenset(
    {
        SigTag.DSA_HEADER,
        SigTag.RSA_HEADER,
        SigTag.FILE_SIGNATURES,
        SigTag.FILE_SIGNATURE_LENGTH,
        SigTag.VERITY_SIGNATURES,
        SigTag.VERITY_SIGNATURE_ALGORITHM,
        SigTag.OPENPGP,
        SigTag.PGP,
        SigTag.GPG,
        SigTag.RESERVED,
        SigTag.RESERVED_SPACE,
    }
)
"""What signing adds or changes; without these a signed and an unsigned package are the same bytes."""


class Tag(IntEnum):
    """Tags of the main header that are read or written here."""

    REGION = 63
    I18N_TABLE = 100
    NAME = 1000
    VERSION = 1001
    RELEASE = 1002
    EPOCH = 1003
    SUMMARY = 1004
    DESCRIPTION = 1005
    BUILD_TIME = 1006
    BUILD_HOST = 1007
    SIZE = 1009
    DISTRIBUTION = 1010
    VENDOR = 1011
    LICENSE = 1014
    PACKAGER = 1015
    GROUP = 1016
    URL = 1020
    OS = 1021
    ARCH = 1022
    PRE = 1023
    POST = 1024
    PREUN = 1025
    POSTUN = 1026
    FILE_SIZES = 1028
    FILE_MODES = 1030
    FILE_RDEVS = 1033
    FILE_MTIMES = 1034
    FILE_DIGESTS = 1035
    FILE_LINKTOS = 1036
    FILE_FLAGS = 1037
    FILE_USERNAMES = 1039
    FILE_GROUPNAMES = 1040
    SOURCE_RPM = 1044
    FILE_VERIFY_FLAGS = 1045
    ARCHIVE_SIZE = 1046
    PROVIDE_NAME = 1047
    REQUIRE_FLAGS = 1048
    REQUIRE_NAME = 1049
    REQUIRE_VERSION = 1050
    CONFLICT_FLAGS = 1053
    CONFLICT_NAME = 1054
    CONFLICT_VERSION = 1055
    RPM_VERSION = 1064
    TRIGGER_SCRIPTS = 1065
    TRIGGER_NAME = 1066
    TRIGGER_VERSION = 1067
    TRIGGER_FLAGS = 1068
    TRIGGER_INDEX = 1069
    VERIFY_SCRIPT = 1079
    CHANGELOG_TIME = 1080
    CHANGELOG_NAME = 1081
    CHANGELOG_TEXT = 1082
    PRE_PROG = 1085
    POST_PROG = 1086
    PREUN_PROG = 1087
    POSTUN_PROG = 1088
    OBSOLETE_NAME = 1090
    VERIFY_SCRIPT_PROG = 1091
    TRIGGER_SCRIPT_PROG = 1092
    FILE_DEVICES = 1095
    FILE_INODES = 1096
    FILE_LANGS = 1097
    SOURCE_PACKAGE = 1106
    PROVIDE_FLAGS = 1112
    PROVIDE_VERSION = 1113
    OBSOLETE_FLAGS = 1114
    OBSOLETE_VERSION = 1115
    DIR_INDEXES = 1116
    BASENAMES = 1117
    DIRNAMES = 1118
    PAYLOAD_FORMAT = 1124
    PAYLOAD_COMPRESSOR = 1125
    PAYLOAD_FLAGS = 1126
    FILE_COLORS = 1140
    PRETRANS = 1151
    POSTTRANS = 1152
    PRETRANS_PROG = 1153
    POSTTRANS_PROG = 1154
    LONG_FILE_SIZES = 5008
    LONG_SIZE = 5009
    FILE_CAPS = 5010
    FILE_DIGEST_ALGORITHM = 5011
    RECOMMEND_NAME = 5046
    RECOMMEND_VERSION = 5047
    RECOMMEND_FLAGS = 5048
    SUGGEST_NAME = 5049
    SUGGEST_VERSION = 5050
    SUGGEST_FLAGS = 5051
    SUPPLEMENT_NAME = 5052
    SUPPLEMENT_VERSION = 5053
    SUPPLEMENT_FLAGS = 5054
    ENHANCE_NAME = 5055
    ENHANCE_VERSION = 5056
    ENHANCE_FLAGS = 5057
    ENCODING = 5062
    FILE_TRIGGER_SCRIPTS = 5066
    FILE_TRIGGER_SCRIPT_PROG = 5067
    FILE_TRIGGER_NAME = 5069
    FILE_TRIGGER_INDEX = 5070
    FILE_TRIGGER_VERSION = 5071
    FILE_TRIGGER_FLAGS = 5072
    TRANS_FILE_TRIGGER_SCRIPTS = 5076
    TRANS_FILE_TRIGGER_SCRIPT_PROG = 5077
    TRANS_FILE_TRIGGER_NAME = 5079
    TRANS_FILE_TRIGGER_INDEX = 5080
    TRANS_FILE_TRIGGER_VERSION = 5081
    TRANS_FILE_TRIGGER_FLAGS = 5082
    FILE_TRIGGER_PRIORITIES = 5084
    TRANS_FILE_TRIGGER_PRIORITIES = 5085
    PAYLOAD_DIGEST = 5092
    PAYLOAD_DIGEST_ALGORITHM = 5093
    PAYLOAD_DIGEST_ALT = 5097
    PREUNTRANS = 5099
    POSTUNTRANS = 5100
    PREUNTRANS_PROG = 5101
    POSTUNTRANS_PROG = 5102


class HashAlgorithm(IntEnum):
    """OpenPGP hash algorithm numbers, as rpm writes them (RFC 9580, 9.5)."""

    MD5 = 1
    SHA1 = 2
    SHA256 = 8
    SHA384 = 9
    SHA512 = 10


class FileBit(IntFlag):
    """rpm's RPMFILE_* file attributes."""

    CONFIG = 1 << 0
    DOC = 1 << 1
    MISSING_OK = 1 << 3
    NOREPLACE = 1 << 4
    GHOST = 1 << 6
    LICENSE = 1 << 7
    README = 1 << 8
    ARTIFACT = 1 << 12


class Sense(IntFlag):
    """rpm's RPMSENSE_* dependency flags."""

    ANY = 0
    LESS = 1 << 1
    GREATER = 1 << 2
    EQUAL = 1 << 3
    POSTTRANS = 1 << 5
    PREREQ = 1 << 6
    PRETRANS = 1 << 7
    INTERP = 1 << 8
    SCRIPT_PRE = 1 << 9
    SCRIPT_POST = 1 << 10
    SCRIPT_PREUN = 1 << 11
    SCRIPT_POSTUN = 1 << 12
    SCRIPT_VERIFY = 1 << 13
    FIND_REQUIRES = 1 << 14
    FIND_PROVIDES = 1 << 15
    TRIGGER_IN = 1 << 16
    TRIGGER_UN = 1 << 17
    TRIGGER_POSTUN = 1 << 18
    MISSING_OK = 1 << 19
    PREUNTRANS = 1 << 20
    POSTUNTRANS = 1 << 21
    RPMLIB = 1 << 24
    TRIGGER_PREIN = 1 << 25
    CONFIG = 1 << 28
    META = 1 << 29


VERIFY_ALL: Final = 0xFFFFFFFF
VERIFY_GHOST: Final = VERIFY_ALL & ~(1 << 0 | 1 << 1 | 1 << 2 | 1 << 5)
"""What ``rpm -V`` looks at: everything; for a %ghost not digest, size, link target and time."""
