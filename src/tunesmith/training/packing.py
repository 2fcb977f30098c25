"""Best-fit-decreasing packing: rows into sequences of at most so many tokens, none of them cut."""

from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int) -> list[tuple[int, ...]]:
    """Group rows so that each group's lengths sum to at most `capacity`.

    Rows are taken from the longest to the shortest, equal ones in file order, and each goes into the fullest group
    that still has room; among equally full ones into the one that became so first. Groups come in the order in which
    they were begun. TRL's `bfd` strategy gives the same groups in the same order.
    """
    groups: list[list[int]] = []
    by_room: defaultdict[int, deque[list[int]]] = defaultdict(deque)
    rooms: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        length = lengths[row]
        assert 0 < length <= capacity
        at = bisect_left(rooms, length)
        if at == len(rooms):
            group: list[int] = []
            groups.append(group)
            room = capacity
        else:
            room = rooms[at]
            group = by_room[room].popleft()
            if not by_room[room]:
                rooms.pop(at)
        group.append(row)
        room -= length
        if room and not by_room[room]:
            insort(rooms, room)
        if room:
            by_room[room].append(group)
    return [tuple(group) for group in groups]
