"""Vectors of several numbers in one register, for loops that LLVM would not make vectors of by itself."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.errors import RequireLiteralValue
from numba.extending import models, register_model

from spikelet.kernels.cpu_loops import F32, I32, I64, intrinsic

LANES = 16  # float32 in the widest register; where registers are narrower, LLVM takes several


class Vector(types.Type):
    """``lanes`` numbers of type ``dtype`` in one register; a mask, where that is boolean."""

    def __init__(self, dtype: types.Type, lanes: int) -> None:
        super().__init__(name=f"Vector({dtype}, {lanes})")
        self.dtype, self.lanes = dtype, lanes


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        element = ir.IntType(1) if kind.dtype == types.boolean else manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.lanes))


@intrinsic
def load(typingctx, array, start, lanes):
    """The ``lanes`` elements (a constant) from array[start] on."""
    if not isinstance(lanes, types.IntegerLiteral):
        raise RequireLiteralValue("lanes")

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature.args[0], arguments, lanes.literal_value)
        return builder.load(place, align=array.dtype.bitwidth // 8)

    return Vector(array.dtype, lanes.literal_value)(array, types.intp, lanes), generate


@intrinsic
def store(typingctx, array, start, vector):
    """array[start], array[start + 1] ... = vector."""

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature.args[0], arguments, vector.lanes)
        builder.store(arguments[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


def _place(context, builder, array, arguments, lanes):
    """The address of the vector that starts at element ``arguments[1]`` of the array ``arguments[0]``."""
    element = context.get_data_type(array.dtype)
    data = context.make_array(array)(context, builder, arguments[0]).data
    address = builder.gep(data, [arguments[1]], source_etype=element)
    return builder.bitcast(address, ir.PointerType(ir.VectorType(element, lanes)))


def _spread(builder, number, element, lanes):
    """A vector, all of it ``number``."""
    none = ir.Constant(ir.VectorType(element, lanes), ir.Undefined)
    single = builder.insert_element(none, number, I32(0))
    return builder.shuffle_vector(single, none, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


@intrinsic
def all_of(typingctx, number, lanes):
    """A vector of ``lanes`` (a constant) uint8, all of them ``number``."""
    if not isinstance(lanes, types.IntegerLiteral):
        raise RequireLiteralValue("lanes")
    kind = Vector(types.uint8, lanes.literal_value)

    def generate(context, builder, signature, arguments):
        return _spread(builder, builder.trunc(arguments[0], ir.IntType(8)), ir.IntType(8), kind.lanes)

    return kind(types.intp, lanes), generate


@intrinsic
def beats(typingctx, value, best):
    """Where value > best, or is not a number: torch hands those on."""

    def generate(context, builder, signature, arguments):
        new, old = (_real(builder, argument, value) for argument in arguments)
        return builder.or_(builder.fcmp_ordered(">", new, old), builder.fcmp_unordered("uno", new, new))

    return Vector(types.boolean, value.lanes)(value, best), generate


def _real(builder, bits, kind):
    if kind.dtype == types.float32:
        return bits
    wide = ir.VectorType(I32, kind.lanes)
    shifted = builder.shl(builder.zext(bits, wide), ir.Constant(wide, [16] * kind.lanes))
    return builder.bitcast(shifted, ir.VectorType(F32, kind.lanes))


@intrinsic
def equals(typingctx, left, right):
    """Where two vectors of whole numbers are the same."""

    def generate(context, builder, signature, arguments):
        return builder.icmp_unsigned("==", *arguments)

    return Vector(types.boolean, left.lanes)(left, right), generate


@intrinsic
def choose(typingctx, mask, yes, no):
    """``yes`` where the mask is set, else ``no``."""

    def generate(context, builder, signature, arguments):
        return builder.select(*arguments)

    return yes(mask, yes, no), generate


@intrinsic
def none_of(typingctx, vector):
    """A vector like this one, of zeros."""

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(vector), None)

    return vector(vector), generate


@intrinsic
def add_product(typingctx, total, to, factors, start, number, vectors):
    """total[to + i] += number * factors[start + i], i < LANES * ``vectors`` (a constant), rounded once if possible."""
    if not isinstance(vectors, types.IntegerLiteral):
        raise RequireLiteralValue("vectors")

    def generate(context, builder, signature, arguments):
        numbers = _spread(builder, arguments[4], F32, LANES)
        for k in range(vectors.literal_value):
            at, given = (
                builder.add(index, ir.Constant(index.type, k * LANES)) for index in (arguments[1], arguments[3])
            )
            place = _place(context, builder, signature.args[0], (arguments[0], at), LANES)
            factor = builder.load(_place(context, builder, signature.args[2], (arguments[2], given), LANES), align=4)
            product = builder.fmul(factor, numbers, flags=["contract"])
            builder.store(builder.fadd(builder.load(place, align=4), product, flags=["contract"]), place, align=4)
        return context.get_dummy_value()

    return types.void(total, types.intp, factors, types.intp, types.float32, vectors), generate


@intrinsic
def spread(typingctx, number, lanes):
    """A vector of ``lanes`` (a constant) numbers, all of them ``number``."""
    if not isinstance(lanes, types.IntegerLiteral):
        raise RequireLiteralValue("lanes")
    kind = Vector(number, lanes.literal_value)

    def generate(context, builder, signature, arguments):
        return _spread(builder, arguments[0], context.get_value_type(number), kind.lanes)

    return kind(number, lanes), generate


@intrinsic
def product(typingctx, left, right):
    """left * right."""

    def generate(context, builder, signature, arguments):
        return builder.fmul(*arguments)

    return left(left, right), generate


@intrinsic
def plus_product(typingctx, summand, left, right):
    """summand + left * right, rounded once if possible."""

    def generate(context, builder, signature, arguments):
        multiplied = builder.fmul(*arguments[1:], flags=["contract"])
        return builder.fadd(arguments[0], multiplied, flags=["contract"])

    return left(summand, left, right), generate


@intrinsic
def minus_product(typingctx, summand, left, right):
    """summand - left * right, rounded once if possible."""

    def generate(context, builder, signature, arguments):
        multiplied = builder.fmul(*arguments[1:], flags=["contract"])
        return builder.fsub(arguments[0], multiplied, flags=["contract"])

    return left(summand, left, right), generate


@intrinsic
def total(typingctx, vector):
    """The sum of a vector of a power of two float32s: its halves are added, then theirs."""

    def generate(context, builder, signature, arguments):
        (numbers,), half = arguments, vector.lanes // 2
        while half:
            upper = ir.Constant(ir.VectorType(I32, half), list(range(half, 2 * half)))
            lower = ir.Constant(ir.VectorType(I32, half), list(range(half)))
            parts = (builder.shuffle_vector(numbers, numbers, side) for side in (lower, upper))
            numbers, half = builder.fadd(*parts), half // 2
        return builder.extract_element(numbers, I32(0))

    return vector.dtype(vector), generate


@intrinsic
def nonzero(typingctx, array, start, lanes):
    """Bit i of the result tells whether array[start + i] is not 0, for i < ``lanes`` (a constant)."""
    if not isinstance(lanes, types.IntegerLiteral):
        raise RequireLiteralValue("lanes")
    count = lanes.literal_value

    def generate(context, builder, signature, arguments):
        numbers = builder.load(_place(context, builder, signature.args[0], arguments, count), align=4)
        unequal = builder.fcmp_unordered("!=", numbers, ir.Constant(numbers.type, None))
        return builder.zext(builder.bitcast(unequal, ir.IntType(count)), I64)

    return types.int64(array, types.intp, lanes), generate


@intrinsic
def lowest(typingctx, bits):
    """The number of the lowest bit that is set; there is one."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@intrinsic
def stream_vector(typingctx, out, to, values, lanes):
    """out[to + i] = values[to + i] for i < ``lanes`` (a constant), past the caches; out[to] starts a line of these."""
    if not isinstance(lanes, types.IntegerLiteral):
        raise RequireLiteralValue("lanes")
    count = lanes.literal_value

    def generate(context, builder, signature, arguments):
        size = out.dtype.bitwidth // 8
        numbers = builder.load(
            _place(context, builder, signature.args[2], (arguments[2], arguments[1]), count), align=size
        )
        place = _place(context, builder, signature.args[0], arguments, count)
        stored = builder.store(numbers, place, align=size * count)
        stored.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
        return context.get_dummy_value()

    return types.void(out, types.intp, values, lanes), generate


@intrinsic
def settle(typingctx):
    """What was streamed is there for the other threads."""

    def generate(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate
