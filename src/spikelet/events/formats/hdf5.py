"""As much of HDF5 as files of spikes need: one-dimensional datasets of numbers, or of lists of numbers, found by name.

Why not h5py: from some damaged lists the library below it (HDF5 2.0) never comes back, and no caller can stop it. Here
every address and count is checked against the size of the file before anything is read or allocated, and what is read
in total is bounded, so that structures that go in circles end.

Read are superblocks 0 to 3, groups of both kinds (links in the header), datasets that are compact, contiguous, or in
chunks listed by a B-tree of version 1, deflated and shuffled chunks, integers, IEEE floats, and lists of these in
global heaps: all that h5py and PyTables write unless told otherwise. Anything else is a ValueError that names it.

Source: The HDF Group, "HDF5 File Format Specification", version 3.0.
"""

import struct
import zlib
from array import array
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
ROUNDS = 4  # how often a sound file is read at most: once, and what several datasets share
SPACE, LINK, TYPE, LAYOUT, FILTERS, CONTINUATION, SYMBOLS = 0x01, 0x06, 0x03, 0x08, 0x0B, 0x10, 0x11
DEFLATE, SHUFFLE = 1, 2
MOST_BLOCKS = 1000  # of one header; sound ones have a few
LIST = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
# where the exponent is and its bits, where the mantissa is and its bits, exponent bias
IEEE = {2: (10, 5, 0, 10, 15), 4: (23, 8, 0, 23, 127), 8: (52, 11, 0, 52, 1023)}


class Source:
    """A file that is read by address, never beyond its end, and not without end."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size = file, file.seek(0, 2)
        self.left = ROUNDS * self.size + 4096

    def read(self, address: int, count: int) -> bytes:
        if address + count > self.size:
            raise ValueError(f"damaged, it points to byte {address + count} of {self.size}")
        self.left -= max(count, 1)
        if self.left < 0:
            raise ValueError("damaged, its structure goes in circles")
        self.file.seek(address)
        data = self.file.read(count)
        if len(data) != count:
            raise ValueError("truncated while it was read")
        return data

    def unpack(self, form: str, address: int) -> tuple[Any, ...]:
        return struct.unpack("<" + form, self.read(address, struct.calcsize("<" + form)))


def _unpack(form: str, data: bytes, at: int = 0) -> tuple[Any, ...]:
    try:
        return struct.unpack_from("<" + form, data, at)
    except struct.error:
        raise ValueError("damaged, a part of its structure is too short") from None


class Dataset(NamedTuple):
    """What the header of a dataset says.

    length   elements
    dtype    of an element; LIST where each is a list
    base     of the elements of the lists, else None
    layout   where they are, the body of that message
    filters  what chunks went through, in order
    """

    length: int
    dtype: np.dtype
    base: np.dtype | None
    layout: bytes
    filters: tuple[int, ...]


def load(source: Source, name: str) -> tuple[np.ndarray, np.dtype | None]:
    """The elements of the dataset called ``name``, such as "spikes/times", and the type of what is in them if they are
    lists: then the elements are what ``places`` finds the lists with. Raises ValueError where there is no such dataset,
    or with the reason where it cannot be read.
    """
    address = _root(source)
    for part in name.split("/"):
        found = next((child for found, child in _links(source, address) if found == part.encode()), None)
        if found is None:
            raise ValueError(f"it holds no {name}")
        address = found
    try:
        dataset = _dataset(source, address)
        return _read(source, dataset), dataset.base
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _root(source: Source) -> int:
    """The address of the root group's header."""
    signature, version = source.unpack("8sB", 0)
    if signature != SIGNATURE or version > 3:
        raise ValueError("it is no HDF5 file")
    if version < 2:
        widths, base_at = source.read(13, 2), 24 if version == 0 else 28
        base, root = source.unpack("Q", base_at)[0], source.unpack("Q", base_at + 40)[0]
    else:
        widths, base, root = source.read(9, 2), *(source.unpack("Q", at)[0] for at in (12, 36))
    if widths != b"\x08\x08" or base:
        raise ValueError("HDF5 with addresses that are not of 8 bytes, from the start of the file, is not read")
    return root


def _messages(source: Source, address: int) -> Iterator[tuple[int, bytes]]:
    """The messages of an object's header: kind and body."""
    if source.read(address, 4) == b"OHDR":
        yield from _messages_of_2(source, address)
    else:
        yield from _messages_of_1(source, address)


def _messages_of_1(source: Source, address: int) -> Iterator[tuple[int, bytes]]:
    version, size = source.unpack("BxxxxxxxI", address)
    if version != 1:
        raise ValueError(f"damaged, byte {address} is no header of an object")
    blocks = [(address + 16, size)]
    for start, length in blocks:
        block, at = source.read(start, length), 0
        while at + 8 <= length:
            kind, size, flags = _unpack("HHB", block, at)
            yield from _message(kind, block[at + 8 : at + 8 + size], flags, blocks)
            at += 8 + size


def _messages_of_2(source: Source, address: int) -> Iterator[tuple[int, bytes]]:
    flags = source.read(address + 5, 1)[0]
    at = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    blocks = [(at + width, int.from_bytes(source.read(at, width), "little"))]
    head = 6 if flags & 4 else 4
    for number, (start, length) in enumerate(blocks):
        if number:  # a continuation has a signature before and a checksum behind its messages
            start, length = start + 4, max(length - 8, 0)
        block, at = source.read(start, length), 0
        while at + head <= length:
            kind, size, mark = _unpack("BHB", block, at)
            yield from _message(kind, block[at + head : at + head + size], mark, blocks)
            at += head + size


def _message(kind: int, body: bytes, flags: int, blocks: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    if kind == CONTINUATION:
        start, length = _unpack("QQ", body)
        blocks.append((start, length))
        if len(blocks) > MOST_BLOCKS:
            raise ValueError("damaged, a header has too many parts")
    elif flags & 2 and kind in (SPACE, TYPE, LAYOUT, FILTERS, LINK):
        raise ValueError("HDF5 with headers that share messages is not read")
    else:
        yield kind, body


def _links(source: Source, address: int) -> Iterator[tuple[bytes, int]]:
    """The members of a group: name and address."""
    for kind, body in _messages(source, address):
        if kind == SYMBOLS:
            yield from _symbols(source, *_unpack("QQ", body))
        elif kind == LINK:
            yield from _link(body)


def _symbols(source: Source, tree: int, heap: int) -> Iterator[tuple[bytes, int]]:
    signature, size, start = source.unpack("4sxxxxQxxxxxxxxQ", heap)
    if signature != b"HEAP":
        raise ValueError(f"damaged, byte {heap} is no heap of names")
    names = source.read(start, size)
    for _, node in _leaves(source, tree, 0, 8):
        signature, count = source.unpack("4sxxH", node)
        if signature != b"SNOD":
            raise ValueError(f"damaged, byte {node} is no list of names")
        entries = source.read(node + 8, 40 * count)
        for i in range(count):
            name, header = _unpack("QQ", entries, 40 * i)
            yield names[name : max(names.find(b"\0", name), 0)], header


def _link(body: bytes) -> Iterator[tuple[bytes, int]]:
    version, flags = _unpack("BB", body)
    hard = not flags & 8 or body[2:3] == b"\0"
    at = 2 + (1 if flags & 8 else 0) + (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
    width = 1 << (flags & 3)
    end = at + width + int.from_bytes(body[at : at + width], "little")
    if version == 1 and hard:
        yield body[at + width : end], _unpack("Q", body, end)[0]


def _leaves(source: Source, address: int, kind: int, key: int, level: int | None = None) -> Iterator[tuple[bytes, int]]:
    """The entries of a B-tree of version 1, in order: key of ``key`` bytes and address of what it leads to."""
    signature, found_kind, found_level, used = source.unpack("4sBBH", address)
    if signature != b"TREE" or found_kind != kind or level not in (None, found_level):
        raise ValueError(f"damaged, byte {address} is no node of a tree")
    entries = source.read(address + 24, used * (key + 8))
    for at in range(0, len(entries), key + 8):
        child = _unpack("Q", entries, at + key)[0]
        if found_level:
            yield from _leaves(source, child, kind, key, found_level - 1)
        else:
            yield entries[at : at + key], child


def _dataset(source: Source, address: int) -> Dataset:
    parts = dict(_messages(source, address))
    if not {SPACE, TYPE, LAYOUT} <= parts.keys():
        raise ValueError("damaged, it is no dataset")
    version, rank = _unpack("BB", parts[SPACE])
    if rank != 1 or version not in (1, 2):
        raise ValueError(f"expected one dimension, it has {rank}")
    length = _unpack("Q", parts[SPACE], 8 if version == 1 else 4)[0]
    dtype, base = _type(parts[TYPE])
    if length * dtype.itemsize > source.size:
        raise ValueError(f"claims {length} elements, more than its file has room for")
    return Dataset(length, dtype, base, parts[LAYOUT], _filters(parts[FILTERS]) if FILTERS in parts else ())


def _type(body: bytes) -> tuple[np.dtype, np.dtype | None]:
    """The type of the elements and, of lists, of what is in them."""
    kind, bits, size = _unpack("BBxxI", body)
    if kind & 15 == 9 and bits & 15 == 0 and size == LIST.itemsize:
        return LIST, _number(body[8:])
    return _number(body), None


def _number(body: bytes) -> np.dtype:
    kind, bits, size = _unpack("BBxxI", body)
    order = ">" if bits & 1 else "<"
    if kind & 15 == 0 and size in (1, 2, 4, 8) and _unpack("HH", body, 8) == (0, 8 * size):
        return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
    if kind & 15 == 1 and size in IEEE and not bits & 64 and _unpack("BBBBI", body, 12) == IEEE[size]:
        return np.dtype(f"{order}f{size}")
    raise ValueError("expected integers, floats, or lists of these")


def _filters(body: bytes) -> tuple[int, ...]:
    version, count = _unpack("BB", body)
    at, found = 8 if version == 1 else 2, []
    for _ in range(count):
        name = 0
        if version == 1:
            number, name, _, values = _unpack("HHHH", body, at)
        else:
            number, _, values = _unpack("HHH", body, at)
        if number not in (DEFLATE, SHUFFLE):
            raise ValueError(f"HDF5 filter {number} is not read")
        at += (8 + name + 4 * (values + values % 2)) if version == 1 else 6 + 4 * values
        found.append(number)
    return tuple(found)


def _read(source: Source, dataset: Dataset) -> np.ndarray:
    version, kind = _unpack("BB", dataset.layout)
    wanted = dataset.length * dataset.dtype.itemsize
    if version in (3, 4) and kind == 0:
        size = _unpack("H", dataset.layout, 2)[0]
        data = dataset.layout[4 : 4 + size]
    elif version in (3, 4) and kind == 1:
        address, size = _unpack("QQ", dataset.layout, 2)
        data = source.read(address, wanted) if size == wanted and wanted else b""
    elif version == 3 and kind == 2:
        data = _chunks(source, dataset)
    else:
        raise ValueError(f"HDF5 layout {kind} of version {version} is not read")
    if len(data) != wanted:
        raise ValueError(f"damaged, of {wanted} bytes {len(data)} are stored")
    return np.frombuffer(data, dataset.dtype)


def _chunks(source: Source, dataset: Dataset) -> bytes:
    rank, tree, chunk, item = _unpack("BQII", dataset.layout, 2)
    if rank != 2 or item != dataset.dtype.itemsize or not 0 < chunk * item <= source.size:
        raise ValueError(f"damaged, it claims chunks of {chunk} elements, {item} bytes each")
    parts: list[bytes] = []
    for key, address in _leaves(source, tree, 1, 24) if dataset.length else ():
        stored, skipped, first = _unpack("IIQ", key)
        if first != chunk * len(parts) or first >= dataset.length:
            raise ValueError(f"damaged, a chunk for element {first} is not where it belongs")
        part = _unfilter(source.read(address, stored), dataset.filters, skipped, chunk * item, item)
        parts.append(part[: (dataset.length - first) * item])
    return b"".join(parts)


def _unfilter(data: bytes, filters: tuple[int, ...], skipped: int, size: int, item: int) -> bytes:
    """A chunk of ``size`` bytes as it was before it went through the filters that were not skipped."""
    for number, kind in reversed(list(enumerate(filters))):
        if skipped >> number & 1:
            continue
        if kind == DEFLATE:
            try:
                data = zlib.decompressobj().decompress(data, size + 1)
            except zlib.error as error:
                raise ValueError(f"damaged, a chunk cannot be inflated ({error})") from None
        elif kind == SHUFFLE and len(data) == size:
            data = np.frombuffer(data, np.uint8).reshape(item, -1).T.tobytes()
    if len(data) != size:
        raise ValueError(f"damaged, a chunk has {len(data)} of {size} bytes")
    return data


def places(source: Source, lists: np.ndarray, item: int) -> np.ndarray:
    """The addresses of the first element of each list, int64 [N], for elements of ``item`` bytes; 0 for empty ones.

    ``lists`` are elements of a dataset, of type LIST.
    """
    found = np.zeros(len(lists), np.int64)
    order = np.argsort(lists["heap"], kind="stable")
    order = order[lists["length"][order] > 0]
    heaps = lists["heap"][order]
    ends = np.append(np.flatnonzero(heaps[1:] != heaps[:-1]) + 1, len(order))
    start = 0
    for end in ends.tolist() if len(order) else ():
        chosen = order[start:end]
        indices, addresses, sizes = _heap(source, int(heaps[start]))
        at = np.searchsorted(indices, lists["index"][chosen]).clip(max=max(len(indices) - 1, 0))
        wanted = lists["length"][chosen].astype(np.int64) * item
        if not len(indices) or (indices[at] != lists["index"][chosen]).any() or (sizes[at] != wanted).any():
            raise ValueError(f"damaged, a list is not in the heap at byte {heaps[start]}")
        if len(np.unique(at)) != len(at):
            raise ValueError(f"damaged, two lists are one in the heap at byte {heaps[start]}")
        found[chosen], start = addresses[at], end
    return found


def _heap(source: Source, address: int) -> np.ndarray:
    """The objects of a global heap, sorted by index: int64 [3, objects], index, address and bytes."""
    signature, version, size = source.unpack("4sBxxxQ", address)
    if signature != b"GCOL" or version != 1 or address + size > source.size:
        raise ValueError(f"damaged, byte {address} is no heap of lists")
    at, objects = 16, array("q")
    while at + 16 <= size:
        index, length = source.unpack("HxxxxxxQ", address + at)
        if index == 0:  # the free space at the end
            break
        if at + 16 + length > size:
            raise ValueError(f"damaged, a list runs over the end of the heap at byte {address}")
        objects.extend((index, address + at + 16, length))
        at += 16 + -(-length // 8) * 8
    table = np.frombuffer(objects, np.int64).reshape(-1, 3)
    return table[np.argsort(table[:, 0], kind="stable")].T
