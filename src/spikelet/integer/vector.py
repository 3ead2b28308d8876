"""Explicit vectors for numba: what the auto-vectorizer makes of short integer rows is three to ten times slower.

Nearly all of it is plain LLVM vector code, so it compiles for any processor. Arrays are flat, private to the thread,
and hold at least ``PADDING`` elements beyond the last one used: a row's last, partial vector is read and written whole,
its surplus lanes unchanged. No bounds are checked and no index may be negative.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from spikelet.compiling import intrinsic

LANES = 64
PADDING = 64
UNROLLED = 12  # rows of up to so many vectors are added without an inner loop
I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


def _data(context, array_type, value, builder):
    return context.make_array(array_type)(context, builder, value).data


def _place(builder, data, index, element, lanes):
    """The address of the <lanes x element> that starts at data[index]."""
    address = builder.gep(data, [index], source_etype=element)
    return builder.bitcast(address, ir.PointerType(ir.VectorType(element, lanes)))


def _load(builder, data, index, element, lanes):
    return builder.load(_place(builder, data, index, element, lanes), align=element.width // 8)


def _splat(builder, scalar, lanes):
    vector = ir.VectorType(scalar.type, lanes)
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, I32(0))
    order = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), order)


@intrinsic
def at(typingctx, array, index):
    """``array[index]`` as int64, without the test for a negative index."""

    def generate(context, builder, signature, arguments):
        element = context.get_data_type(array.dtype)
        data = _data(context, signature.args[0], arguments[0], builder)
        value = builder.load(builder.gep(data, [arguments[1]], source_etype=element), align=element.width // 8)
        return builder.sext(value, I64) if element.width < 64 else value

    return types.int64(array, types.intp), generate


@intrinsic
def put(typingctx, array, index, value):
    """``array[index] = value``, the value cut to the array's width, without the test for a negative index."""

    def generate(context, builder, signature, arguments):
        element = context.get_data_type(array.dtype)
        data = _data(context, signature.args[0], arguments[0], builder)
        cut = builder.trunc(arguments[2], element) if element.width < 64 else arguments[2]
        builder.store(cut, builder.gep(data, [arguments[1]], source_etype=element), align=element.width // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), generate


@intrinsic
def trailing_zeros(typingctx, word):
    """Index of the lowest set bit of a uint64; 64 where there is none."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.IntType(1)(0))

    return types.int64(types.uint64), generate


@intrinsic
def population_count(typingctx, word):
    """Number of set bits of a uint64."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@intrinsic
def spike_masks(typingctx, v, high, low, start):
    """(bits of v >= high, bits of v < low) for the 64 elements from ``start``: two uint64."""
    signature = types.UniTuple(types.uint64, 2)(v, high, low, types.intp)

    def generate(context, builder, signature, arguments):
        element = context.get_data_type(v.dtype)
        a, b, c = (
            _load(builder, _data(context, kind, value, builder), arguments[3], element, LANES)
            for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
        )
        up = builder.bitcast(builder.icmp_signed(">=", a, b), I64)
        down = builder.bitcast(builder.icmp_signed("<", a, c), I64)
        return context.make_tuple(builder, signature.return_type, (up, down))

    return signature, generate


@intrinsic
def reach_mask(typingctx, v, i, threshold, j):
    """Bits of v[i : i + 64] >= threshold[j : j + 64]: one uint64."""

    def generate(context, builder, signature, arguments):
        element = context.get_data_type(v.dtype)
        a = _load(builder, _data(context, signature.args[0], arguments[0], builder), arguments[1], element, LANES)
        b = _load(builder, _data(context, signature.args[2], arguments[2], builder), arguments[3], element, LANES)
        return builder.bitcast(builder.icmp_signed(">=", a, b), I64)

    return types.uint64(v, types.intp, threshold, types.intp), generate


@intrinsic
def integrate(typingctx, v, charge, bias, threshold, start, leak, shift, fraction_bits):
    """v = (v * leak >> shift) + (charge << fraction_bits) + bias for the 64 from ``start``; bits of v >= threshold.

    All int32 but charge, which may be int16.
    """

    def generate(context, builder, signature, arguments):
        place = _place(builder, _data(context, signature.args[0], arguments[0], builder), arguments[4], I32, LANES)
        charge, bias, threshold = _charges(context, builder, signature.args[1:4], arguments[1:4], arguments[4])
        leak, shift, fraction = (_splat(builder, builder.trunc(arguments[k], I32), LANES) for k in (5, 6, 7))
        kept = builder.ashr(builder.mul(builder.load(place, align=4), leak), shift)
        after = builder.add(builder.add(kept, builder.shl(charge, fraction)), bias)
        builder.store(after, place, align=4)
        return builder.bitcast(builder.icmp_signed(">=", after, threshold), I64)

    return types.uint64(v, charge, bias, threshold, *[types.intp] * 4), generate


@intrinsic
def integrate_two(typingctx, m, c, charge, bias, threshold, start, m_less, m_shift, c_less, c_shift, fraction_bits):
    """m and c += (itself * less >> shift) + (charge << fraction_bits) + bias for the 64 from ``start``; bits of
    m - c >= threshold. All int32 but charge, which may be int16.
    """

    def generate(context, builder, signature, arguments):
        charge, bias, threshold = _charges(context, builder, signature.args[2:5], arguments[2:5], arguments[5])
        numbers = [_splat(builder, builder.trunc(argument, I32), LANES) for argument in arguments[6:]]
        current, traces = builder.add(builder.shl(charge, numbers[4]), bias), []
        for k in (0, 1):
            data = _data(context, signature.args[k], arguments[k], builder)
            place = _place(builder, data, arguments[5], I32, LANES)
            before = builder.load(place, align=4)
            change = builder.ashr(builder.mul(before, numbers[2 * k]), numbers[2 * k + 1])
            traces.append(builder.add(builder.add(before, change), current))
            builder.store(traces[k], place, align=4)
        return builder.bitcast(builder.icmp_signed(">=", builder.sub(*traces), threshold), I64)

    return types.uint64(m, c, charge, bias, threshold, *[types.intp] * 6), generate


def _charges(context, builder, kinds, arrays, start):
    """64 of each array from ``start`` on, as int32."""
    loaded = []
    for kind, array in zip(kinds, arrays, strict=True):
        element, data = context.get_data_type(kind.dtype), _data(context, kind, array, builder)
        value = _load(builder, data, start, element, LANES)
        loaded.append(value if element.width == 32 else builder.sext(value, ir.VectorType(I32, LANES)))
    return loaded


# ---------------------------------------------------------------- rows of weights onto membranes


class _Rows:
    """Code for ``v[o : o + n] (+ or -)= w[i : i + n]``, repeated for several rows, each at its stride."""

    def __init__(self, context, builder, signature, arguments, combine):
        v, w = signature.args[0], signature.args[2]
        self.builder, self.combine = builder, combine
        self.wide, self.narrow = context.get_data_type(v.dtype), context.get_data_type(w.dtype)
        self.lanes = 512 // self.wide.width
        self.target, self.source = _data(context, v, arguments[0], builder), _data(context, w, arguments[2], builder)
        _, self.o, _, self.i, self.n, self.rows, self.out_stride, self.weight_stride = arguments
        self.index = self.n.type

    def constant(self, value):
        return ir.Constant(self.index, value)

    def vector(self, o, i, mask=None):
        builder = self.builder
        weight = _load(builder, self.source, i, self.narrow, self.lanes)
        if self.wide.width > self.narrow.width:
            weight = builder.sext(weight, ir.VectorType(self.wide, self.lanes))
        if mask is not None:
            weight = builder.select(mask, weight, ir.Constant(weight.type, None))
        place = _place(builder, self.target, o, self.wide, self.lanes)
        old = builder.load(place, align=self.wide.width // 8)
        builder.store(self.combine(old, weight), place, align=self.wide.width // 8)

    def each_row(self, body):
        """``body(o, i)`` for every row; there is at least one."""
        builder = self.builder
        before, loop = builder.block, builder.append_basic_block("row")
        builder.branch(loop)
        builder.position_at_end(loop)
        left, o, i = (builder.phi(self.index) for _ in range(3))
        for phi, start in ((left, self.rows), (o, self.o), (i, self.i)):
            phi.add_incoming(start, before)
        body(o, i)
        fewer = builder.sub(left, self.constant(1))
        left.add_incoming(fewer, builder.block)
        o.add_incoming(builder.add(o, self.out_stride), builder.block)
        i.add_incoming(builder.add(i, self.weight_stride), builder.block)
        done = builder.append_basic_block("rows_done")
        builder.cbranch(builder.icmp_signed(">", fewer, self.constant(0)), loop, done)
        builder.position_at_end(done)

    def unrolled(self, vectors):
        def body(o, i):
            for k in range(vectors):
                step = self.constant(k * self.lanes)
                self.vector(self.builder.add(o, step), self.builder.add(i, step))

        return body

    def any_length(self, o, i):
        builder, n = self.builder, self.n
        whole = builder.and_(n, self.constant(-self.lanes))
        with cgutils.for_range_slice(builder, self.constant(0), whole, self.constant(self.lanes), self.index) as (k, _):
            self.vector(builder.add(o, k), builder.add(i, k))
        rest = builder.sub(n, whole)
        with builder.if_then(builder.icmp_signed(">", rest, self.constant(0))):
            lane = ir.Constant(ir.VectorType(I16, self.lanes), list(range(self.lanes)))
            mask = builder.icmp_signed("<", lane, _splat(builder, builder.trunc(rest, I16), self.lanes))
            self.vector(builder.add(o, whole), builder.add(i, whole), mask)

    def emit(self):
        builder = self.builder
        other, done = builder.append_basic_block("any_length"), builder.append_basic_block("done")
        switch = builder.switch(self.n, other)
        for vectors in range(1, UNROLLED + 1):
            block = builder.append_basic_block(f"vectors_{vectors}")
            switch.add_case(self.constant(vectors * self.lanes), block)
            with builder.goto_block(block):
                self.each_row(self.unrolled(vectors))
                builder.branch(done)
        with builder.goto_block(other):
            self.each_row(self.any_length)
            builder.branch(done)
        builder.position_at_end(done)


@intrinsic
def add_rows(typingctx, v, o, w, i, n, rows, out_stride, weight_stride):
    """``v[o : o + n] += w[i : i + n]``, for ``rows`` rows, o and i moving on by their strides."""

    def generate(context, builder, signature, arguments):
        _Rows(context, builder, signature, arguments, builder.add).emit()
        return context.get_dummy_value()

    return types.void(v, types.intp, w, *[types.intp] * 5), generate


@intrinsic
def subtract_rows(typingctx, v, o, w, i, n, rows, out_stride, weight_stride):
    """``v[o : o + n] -= w[i : i + n]``, for ``rows`` rows, o and i moving on by their strides."""

    def generate(context, builder, signature, arguments):
        _Rows(context, builder, signature, arguments, builder.sub).emit()
        return context.get_dummy_value()

    return types.void(v, types.intp, w, *[types.intp] * 5), generate


def _emit_sum(context, builder, signature, arguments, vectors):
    _, _, _, _, start, stop, o, sign = arguments
    index, wide = o.type, context.get_data_type(signature.args[0].dtype)
    data = [_data(context, k, a, builder) for k, a in zip(signature.args[:4], arguments[:4], strict=True)]
    byte = ir.IntType(8)
    sums = [cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(byte, 64), None)) for _ in range(vectors)]
    with cgutils.for_range_slice(builder, start, stop, ir.Constant(index, 1), index) as (k, _):
        site = builder.sext(builder.load(builder.gep(data[3], [k], source_etype=I32), align=4), index)
        entry = builder.add(builder.mul(site, ir.Constant(index, 4)), ir.Constant(index, 1))
        begin = builder.sext(builder.load(builder.gep(data[2], [entry], source_etype=I32), align=4), index)
        begin = builder.add(begin, o)
        for b, total in enumerate(sums):
            row = _load(builder, data[1], builder.add(begin, ir.Constant(index, 64 * b)), byte, 64)
            builder.store(builder.add(builder.load(total), row), total)
    factor = _splat(builder, builder.trunc(sign, wide), 64)
    for b, total in enumerate(sums):
        change = builder.mul(builder.sext(builder.load(total), ir.VectorType(wide, 64)), factor)
        place = _place(builder, data[0], builder.add(o, ir.Constant(index, 64 * b)), wide, 64)
        builder.store(builder.add(builder.load(place, align=wide.width // 8), change), place, align=wide.width // 8)


@intrinsic
def sum_rows(typingctx, v, w, table, events, start, stop, o, sign):
    """``v[o : o + 64] += sign * sum of w[i + o : i + o + 64]``, i = table[4 * events[k] + 1], over start <= k < stop.

    Sums are kept in vectors of int8: at most 127 rows of weights -1, 0 and 1.
    """

    def generate(context, builder, signature, arguments):
        _emit_sum(context, builder, signature, arguments, 1)
        return context.get_dummy_value()

    return types.void(v, w, table, events, *[types.intp] * 4), generate


@intrinsic
def sum_rows8(typingctx, v, w, table, events, start, stop, o, sign):
    """``sum_rows`` for 512 outputs at once."""

    def generate(context, builder, signature, arguments):
        _emit_sum(context, builder, signature, arguments, 8)
        return context.get_dummy_value()

    return types.void(v, w, table, events, *[types.intp] * 4), generate


# ---------------------------------------------------------------- sums of int16 products


def _pair_products(context, builder, a, b):
    """a[2k] * b[2k] + a[2k + 1] * b[2k + 1] of two <32 x i16>, as <16 x i32>."""
    if "+avx512bw" in context.codegen().magic_tuple()[2]:
        kind = ir.FunctionType(ir.VectorType(I32, 16), [a.type, b.type])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.pmaddw.d.512")
        return builder.call(function, [a, b])
    total = None
    for odd in (0, 1):
        order = ir.Constant(ir.VectorType(I32, 16), list(range(odd, 32, 2)))
        empty = ir.Constant(a.type, ir.Undefined)
        x, y = (builder.sext(builder.shuffle_vector(p, empty, order), ir.VectorType(I32, 16)) for p in (a, b))
        product = builder.mul(x, y)
        total = product if total is None else builder.add(total, product)
    return total


def _emit_dot(context, builder, signature, arguments, positions):
    _, o, out_stride, _, base, x_stride, _, pairs, _, i = arguments
    index = o.type
    data = {k: _data(context, signature.args[k], arguments[k], builder) for k in (0, 3, 6, 8)}
    zero = ir.Constant(ir.VectorType(I32, 16), None)
    sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(2)] for _ in range(positions)]
    with cgutils.for_range_slice(builder, ir.Constant(index, 0), pairs, ir.Constant(index, 1), index) as (j, _):
        tap = builder.load(builder.gep(data[6], [j], source_etype=I32), align=4)
        start = builder.add(base, builder.sext(tap, index))
        begin = builder.add(i, builder.mul(j, ir.Constant(index, 64)))
        weights = [_load(builder, data[8], builder.add(begin, ir.Constant(index, 32 * b)), I16, 32) for b in range(2)]
        for p in range(positions):
            place = builder.add(start, builder.mul(x_stride, ir.Constant(index, p)))
            address = builder.gep(data[3], [place], source_etype=I16)
            pair = builder.load(builder.bitcast(address, ir.PointerType(I32)), align=2, typ=I32)
            both = builder.bitcast(_splat(builder, pair, 16), ir.VectorType(I16, 32))
            for b in range(2):
                product = _pair_products(context, builder, both, weights[b])
                builder.store(builder.add(builder.load(sums[p][b]), product), sums[p][b])
    for p in range(positions):
        first = builder.add(o, builder.mul(out_stride, ir.Constant(index, p)))
        for b in range(2):
            place = _place(builder, data[0], builder.add(first, ir.Constant(index, 16 * b)), I32, 16)
            builder.store(builder.load(sums[p][b]), place, align=4)


def _dot_signature(v, x, taps, w):
    return types.void(v, types.intp, types.intp, x, types.intp, types.intp, taps, types.intp, w, types.intp)


@intrinsic
def dot(typingctx, v, o, out_stride, x, base, x_stride, taps, pairs, w, i):
    """v[o : o + 32] = sum over j < pairs of x[base + taps[j]] and its neighbour times 32 pairs of weights in w.

    v int32, x and w int16, taps int32; the pairs of tap j start at w[i + 64 j].
    """

    def generate(context, builder, signature, arguments):
        _emit_dot(context, builder, signature, arguments, 1)
        return context.get_dummy_value()

    return _dot_signature(v, x, taps, w), generate


@intrinsic
def dot4(typingctx, v, o, out_stride, x, base, x_stride, taps, pairs, w, i):
    """``dot`` at four positions, o and base moving on by their strides."""

    def generate(context, builder, signature, arguments):
        _emit_dot(context, builder, signature, arguments, 4)
        return context.get_dummy_value()

    return _dot_signature(v, x, taps, w), generate


@intrinsic
def bit_dot(typingctx, v, o, plus, minus, signed, base, taps, words, w, i):
    """v[o : o + 32] = sum over j < words of the products of ternary vectors in bits: 64 of ``plus`` - ``minus`` from
    base + taps[j] times 32 pairs of words (+1s, -1s) from w[i + 64 j]. ``minus`` is left out where not ``signed``.

    v int32, plus, minus and w uint64, taps int32.
    """

    def generate(context, builder, signature, arguments):
        signed = arguments[4]
        with builder.if_else(signed) as (then, otherwise):
            with then:
                _emit_bit_dot(context, builder, signature, arguments, True)
            with otherwise:
                _emit_bit_dot(context, builder, signature, arguments, False)
        return context.get_dummy_value()

    scalar = types.intp
    return types.void(v, scalar, plus, minus, types.boolean, scalar, taps, scalar, w, scalar), generate


def _emit_bit_dot(context, builder, signature, arguments, signed):
    _, o, _, _, _, base, _, words, _, i = arguments
    index = o.type
    data = {k: _data(context, signature.args[k], arguments[k], builder) for k in (0, 2, 3, 6, 8)}
    vector = ir.VectorType(I64, 8)
    count = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector]), "llvm.ctpop.v8i64")
    sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in range(4)]
    with cgutils.for_range_slice(builder, ir.Constant(index, 0), words, ir.Constant(index, 1), index) as (j, _):
        tap = builder.load(builder.gep(data[6], [j], source_etype=I32), align=4)
        start = builder.add(base, builder.sext(tap, index))
        begin = builder.add(i, builder.mul(j, ir.Constant(index, 64)))
        planes = []
        for k in (2, 3) if signed else (2,):
            word = builder.load(builder.gep(data[k], [start], source_etype=I64), align=8)
            planes.append(_splat(builder, word, 8))
        for b in range(4):
            ones = [_load(builder, data[8], builder.add(begin, ir.Constant(index, 8 * b + s)), I64, 8) for s in (0, 32)]
            gain, loss = (builder.and_(planes[0], w) for w in ones)
            if signed:
                gain = builder.or_(gain, builder.and_(planes[1], ones[1]))
                loss = builder.or_(loss, builder.and_(planes[1], ones[0]))
            change = builder.sub(builder.call(count, [gain]), builder.call(count, [loss]))
            builder.store(builder.add(builder.load(sums[b]), change), sums[b])
    for b in range(4):
        place = _place(builder, data[0], builder.add(o, ir.Constant(index, 8 * b)), I32, 8)
        builder.store(builder.trunc(builder.load(sums[b]), ir.VectorType(I32, 8)), place, align=4)
