"""The brute-force list of the reference's documentation: mobilenetv2 on two backends, what is printed there of 32 ids."""

OPLIST = ["Pool2D", "BinaryArithmetic", "DepthwiseConv2D", "Conv2D", "Reshape"]

#: Milliseconds and KiB by id.
PRINTED = {
    0: (72.525, 56388), 1: (86.532, 63624), 2: (69.352, 64320), 3: (76.436, 65376), 4: (69.634, 73016), 5: (47.013, 73492),
    6: (95.01, 74488), 7: (111.329, 74844), 8: (98.956, 393324), 9: (103.24, 395088), 10: (68.107, 396180),
    11: (86.109, 395932), 12: (25.477, 402468), 13: (25.42, 402800), 14: (9.168, 403904), 15: (7.801, 404476),
    30: (9.145, 403940), 31: (8.034, 403568),
}  # fmt: skip


def reference_table() -> dict:
    """As the reference dumps it: no backends, no mode."""
    solutions = [{"memory": memory, "id": id_, "time": time} for id_, (time, memory) in PRINTED.items()]
    return {"oplist": OPLIST, "solutions": solutions}
