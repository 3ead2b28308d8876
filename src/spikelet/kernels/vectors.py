"""Vectors of several numbers in one register, for loops that LLVM would not make vectors of by itself.

``+ - * / >= <= <`` work on two vectors of float32, and on one and a number: nothing is contracted or reordered.
Arrays of bfloat16 come as uint16; ``real`` and ``stored`` convert numbers and vectors, and do nothing to float32.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, codegen, config
from numba.core.errors import RequireLiteralValue
from numba.extending import models, overload, register_model

from spikelet.compiling import intrinsic

I1, I16, I32, I64, F32, F64 = *(ir.IntType(n) for n in (1, 16, 32, 64)), ir.FloatType(), ir.DoubleType()
LANES = 16  # float32 in the widest register; where registers are narrower, LLVM takes several
GIVEN = config.CPU_FEATURES  # type: ignore[attr-defined]
FEATURES = codegen.get_host_cpu_features() if GIVEN is None else GIVEN
COMPRESSES = "+avx512f" in FEATURES  # has an instruction for ``squeeze``


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
    kind = Vector(array.dtype, _literal(lanes))

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature.args[0], arguments, kind.lanes)
        return builder.load(place, align=array.dtype.bitwidth // 8)

    return kind(array, types.intp, lanes), generate


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


def _widened(builder, arguments, kinds, lanes):
    """Vectors as they are, a float32 as one."""
    pairs = zip(arguments, kinds, strict=True)
    return [x if isinstance(kind, Vector) else _spread(builder, x, F32, lanes) for x, kind in pairs]


# ---------------------------------------------------------------- arithmetic


def _operator(symbol: Callable[..., Any], build: Callable[..., Any], dtype: types.Type) -> None:
    """Make ``symbol`` of two vectors of float32, or of one and a float32, the vector that ``build`` makes."""

    @intrinsic
    def apply(typingctx, left, right):
        lanes = left.lanes if isinstance(left, Vector) else right.lanes

        def generate(context, builder, signature, arguments):
            return build(builder, *_widened(builder, arguments, signature.args, lanes))

        return Vector(dtype, lanes)(left, right), generate

    @overload(symbol)
    def implementation(left, right):
        sides = (left, right)
        lanes = {side.lanes for side in sides if isinstance(side, Vector)}
        if len(lanes) == 1 and all(getattr(side, "dtype", side) == types.float32 for side in sides):
            return lambda left, right: apply(left, right)
        return None


def _compared(sign: str, builder: ir.IRBuilder, left: ir.Value, right: ir.Value) -> ir.Value:
    """Nothing that is not a number is more or less than another."""
    return builder.fcmp_ordered(sign, left, right)


_operator(operator.add, ir.IRBuilder.fadd, types.float32)
_operator(operator.sub, ir.IRBuilder.fsub, types.float32)
_operator(operator.mul, ir.IRBuilder.fmul, types.float32)
_operator(operator.truediv, ir.IRBuilder.fdiv, types.float32)
_operator(operator.ge, partial(_compared, ">="), types.boolean)
_operator(operator.le, partial(_compared, "<="), types.boolean)
_operator(operator.lt, partial(_compared, "<"), types.boolean)


def _function(name: str) -> Callable[..., Any]:
    """LLVM's function ``name`` of the numbers of a vector."""

    @intrinsic
    def apply(typingctx, vector):
        def generate(context, builder, signature, arguments):
            (numbers,) = arguments
            kind = ir.FunctionType(numbers.type, [numbers.type])
            called = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{vector.lanes}f32")
            return builder.call(called, arguments)

        return vector(vector), generate

    return apply


magnitude, floor = _function("fabs"), _function("floor")


@intrinsic
def power_of_two(typingctx, exponents):
    """2 ** each exponent: whole float32s in -126 .. 127."""

    def generate(context, builder, signature, arguments):
        whole = ir.VectorType(I32, exponents.lanes)
        biased = builder.add(builder.fptosi(arguments[0], whole), _constant(whole, 127))
        return builder.bitcast(builder.shl(biased, _constant(whole, 23)), arguments[0].type)

    return exponents(exponents), generate


@intrinsic
def real(typingctx, value):
    """float32 of a float32, or of the bits of a bfloat16; or of a vector of those."""

    def generate(context, builder, signature, arguments):
        return _real(builder, arguments[0])

    return (Vector(types.float32, value.lanes) if isinstance(value, Vector) else types.float32)(value), generate


def _real(builder, value):
    if _like(value.type, I16) != value.type:
        return value
    whole = _like(value.type, I32)
    shifted = builder.shl(builder.zext(value, whole), _constant(whole, 16))
    return builder.bitcast(shifted, _like(value.type, F32))


@intrinsic
def stored(typingctx, value, array):
    """A float32, or a vector of them, as ``array`` keeps it: itself, or the nearest bfloat16's bits, ties to even."""
    kind = Vector(array.dtype, value.lanes) if isinstance(value, Vector) else array.dtype

    def generate(context, builder, signature, arguments):
        x = arguments[0]
        if array.dtype == types.float32:
            return x
        whole, half = _like(x.type, I32), _like(x.type, I16)
        bits, shift = builder.bitcast(x, whole), _constant(whole, 16)
        odd = builder.and_(builder.lshr(bits, shift), _constant(whole, 1))
        nearest = builder.lshr(builder.add(bits, builder.add(odd, _constant(whole, 0x7FFF))), shift)
        unordered = builder.fcmp_unordered("uno", x, x)
        return builder.trunc(builder.select(unordered, _constant(whole, 0x7FC0), nearest), half)

    return kind(value, array), generate


def _like(kind, element):
    """``element``, or a vector of as many as ``kind`` has."""
    return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element


def _constant(kind, number):
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


@intrinsic
def add_to(typingctx, array, vector):
    """array[i] += vector[i], in float64."""

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature.args[0], (arguments[0], I64(0)), vector.lanes)
        wide = builder.fpext(arguments[1], ir.VectorType(F64, vector.lanes))
        builder.store(builder.fadd(builder.load(place, align=8), wide), place, align=8)
        return context.get_dummy_value()

    return types.void(array, vector), generate


# ---------------------------------------------------------------- selections


@intrinsic
def all_of(typingctx, number, lanes):
    """A vector of ``lanes`` (a constant) uint8, all of them ``number``."""
    kind = Vector(types.uint8, _literal(lanes))

    def generate(context, builder, signature, arguments):
        return _spread(builder, builder.trunc(arguments[0], ir.IntType(8)), ir.IntType(8), kind.lanes)

    return kind(types.intp, lanes), generate


@intrinsic
def beats(typingctx, value, best):
    """Where value > best, or is not a number: torch hands those on."""

    def generate(context, builder, signature, arguments):
        new, old = (_real(builder, argument) for argument in arguments)
        return builder.or_(builder.fcmp_ordered(">", new, old), builder.fcmp_unordered("uno", new, new))

    return Vector(types.boolean, value.lanes)(value, best), generate


@intrinsic
def equals(typingctx, left, right):
    """Where two vectors of whole numbers are the same."""

    def generate(context, builder, signature, arguments):
        return builder.icmp_unsigned("==", *arguments)

    return Vector(types.boolean, left.lanes)(left, right), generate


@intrinsic
def choose(typingctx, mask, yes, no):
    """``yes`` where the mask is set, else ``no``: vectors, or a float32 for all."""
    kind = next((side for side in (yes, no) if isinstance(side, Vector)), Vector(types.float32, mask.lanes))

    def generate(context, builder, signature, arguments):
        return builder.select(arguments[0], *_widened(builder, arguments[1:], signature.args[1:], mask.lanes))

    return kind(mask, yes, no), generate


@intrinsic
def none_of(typingctx, vector):
    """A vector like this one, of zeros."""

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(vector), None)

    return vector(vector), generate


@intrinsic
def add_product(typingctx, total, to, factors, start, number, count):
    """total[to + i] += number * factors[start + i], i < LANES * ``count`` (a constant), rounded once if possible."""
    _literal(count)

    def generate(context, builder, signature, arguments):
        numbers = _spread(builder, arguments[4], F32, LANES)
        places = _places(context, builder, signature.args[0], arguments[:2], count.literal_value)
        given = _places(context, builder, signature.args[2], arguments[2:4], count.literal_value)
        for place, factor in zip(places, given, strict=True):
            product = builder.fmul(builder.load(factor, align=4), numbers, flags=["contract"])
            builder.store(builder.fadd(builder.load(place, align=4), product, flags=["contract"]), place, align=4)
        return context.get_dummy_value()

    return types.void(total, types.intp, factors, types.intp, types.float32, count), generate


@intrinsic
def block(typingctx, array, start, count):
    """A tuple of ``count`` (a constant) vectors, which LLVM keeps in registers: the float32s from array[start] on."""
    kind = types.UniTuple(Vector(types.float32, LANES), _literal(count))

    def generate(context, builder, signature, arguments):
        places = _places(context, builder, signature.args[0], arguments[:2], kind.count)
        return context.make_tuple(builder, kind, [builder.load(place, align=4) for place in places])

    return kind(array, types.intp, count), generate


@intrinsic
def plus_numbers(typingctx, sums, array, start, number):
    """The block ``sums`` + number * the block of the same size from array[start] on, rounded once if possible."""

    def generate(context, builder, signature, arguments):
        places = _places(context, builder, signature.args[1], arguments[1:3], sums.count)
        numbers, total = _spread(builder, arguments[3], F32, LANES), []
        for i, place in enumerate(places):
            multiplied = builder.fmul(builder.load(place, align=4), numbers, flags=["contract"])
            total.append(builder.fadd(builder.extract_value(arguments[0], i), multiplied, flags=["contract"]))
        return context.make_tuple(builder, sums, total)

    return sums(sums, array, types.intp, types.float32), generate


@intrinsic
def add_block(typingctx, array, start, stride, values, number, rows):
    """array[start] ... += number * the first of ``rows`` (a constant) parts of a block, ``stride`` on the next."""
    each = values.count // _literal(rows)

    def generate(context, builder, signature, arguments):
        numbers = _spread(builder, arguments[4], F32, LANES)
        for row in range(rows.literal_value):
            start = builder.add(arguments[1], builder.mul(arguments[2], I64(row)))
            for i, place in enumerate(_places(context, builder, signature.args[0], (arguments[0], start), each)):
                value = builder.extract_value(arguments[3], row * each + i)
                product = builder.fmul(value, numbers, flags=["contract"])
                builder.store(builder.fadd(builder.load(place, align=4), product, flags=["contract"]), place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, values, types.float32, rows), generate


@intrinsic
def put_block(typingctx, array, start, values, count):
    """array[start], array[start + 1] ... = the first ``count`` (a constant) vectors of a block."""
    _literal(count)

    def generate(context, builder, signature, arguments):
        places = _places(context, builder, signature.args[0], arguments[:2], count.literal_value)
        for i, place in enumerate(places):
            builder.store(builder.extract_value(arguments[2], i), place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, values, count), generate


@intrinsic
def moved_on(typingctx, values, more):
    """A block of the same size: ``values`` without its first vectors, and ``more`` behind."""

    def generate(context, builder, signature, arguments):
        old = [builder.extract_value(arguments[0], i) for i in range(more.count, values.count)]
        new = [builder.extract_value(arguments[1], i) for i in range(more.count)]
        return context.make_tuple(builder, values, old + new)

    return values(values, more), generate


def _literal(number):
    if not isinstance(number, types.IntegerLiteral):
        raise RequireLiteralValue("a constant")
    return number.literal_value


def _places(context, builder, array, arguments, count):
    """The addresses of ``count`` vectors; ``arguments``: the array and where the first one starts."""
    numbers, start = arguments
    starts = (builder.add(start, I64(k * LANES)) for k in range(count))
    return [_place(context, builder, array, (numbers, start), LANES) for start in starts]


@intrinsic
def steps(typingctx, start, step):
    """The vector start, start + step ... of int32."""
    kind = Vector(types.int32, LANES)

    def generate(context, builder, signature, arguments):
        first, step = (_spread(builder, builder.trunc(number, I32), I32, LANES) for number in arguments)
        return builder.add(first, builder.mul(step, ir.Constant(ir.VectorType(I32, LANES), list(range(LANES)))))

    return kind(types.int64, types.int64), generate


@intrinsic
def squeeze(typingctx, array, to, values, bits):
    """Those of ``values`` whose bit is set go to array[to], array[to + 1] ...; one number behind them may change."""

    def generate(context, builder, signature, arguments):
        element, vector = context.get_data_type(array.dtype), arguments[2]
        data = context.make_array(array)(context, builder, arguments[0]).data
        mask = builder.bitcast(builder.trunc(arguments[3], ir.IntType(values.lanes)), ir.VectorType(I1, values.lanes))
        if COMPRESSES:
            kind = ir.FunctionType(ir.VoidType(), [vector.type, ir.PointerType(element), mask.type])
            letter = "f" if array.dtype == types.float32 else "i"
            name = f"llvm.masked.compressstore.v{values.lanes}{letter}{array.dtype.bitwidth}"
            store = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(store, [vector, builder.gep(data, [arguments[1]], source_etype=element), mask])
        else:
            place = arguments[1]
            for i in range(values.lanes):
                builder.store(builder.extract_element(vector, I32(i)), builder.gep(data, [place], source_etype=element))
                place = builder.add(place, builder.zext(builder.extract_element(mask, I32(i)), place.type))
        return context.get_dummy_value()

    return types.void(array, types.intp, values, types.int64), generate


@intrinsic
def ones(typingctx, bits):
    """How many bits are set."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), generate


@intrinsic
def spread(typingctx, number, lanes):
    """A vector of ``lanes`` (a constant) numbers, all of them ``number``."""
    kind = Vector(number, _literal(lanes))

    def generate(context, builder, signature, arguments):
        return _spread(builder, arguments[0], context.get_value_type(number), kind.lanes)

    return kind(number, lanes), generate


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
    count = _literal(lanes)

    def generate(context, builder, signature, arguments):
        numbers = builder.load(_place(context, builder, signature.args[0], arguments, count), align=4)
        unequal = builder.fcmp_unordered("!=", numbers, ir.Constant(numbers.type, None))
        return builder.zext(builder.bitcast(unequal, ir.IntType(count)), I64)

    return types.int64(array, types.intp, lanes), generate


@intrinsic
def stream(typingctx, array, start, vector):
    """``store`` past the caches; array[start] begins a line of these, and the vector is whole lines."""

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature.args[0], arguments, vector.lanes)
        stored = builder.store(arguments[2], place, align=64)
        stored.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def settle(typingctx):
    """What was streamed is there for the other threads."""

    def generate(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate
