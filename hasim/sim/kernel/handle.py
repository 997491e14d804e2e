"""Kernel: all arrays of the data plane behind one pointer.

A namedtuple of arrays is passed to every helper by value (seven words an array), which made both
compilation and calls some twenty times slower here. A Kernel is one word: the address of a table
of (data address, length) pairs. In compiled code `k.slots` builds the array view in place, without
reference counts; the Python object keeps the arrays alive.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.arrayobj import make_array, populate_array

from hasim.sim.kernel.layout import FIELDS


class KernelType(types.Type):
    """numba's name for a Kernel."""

    def __init__(self):
        super().__init__(name="HasimKernel")


KERNEL = KernelType()
ARRAYS = {
    name: types.Array(typeof(np.zeros(1, dtype)).dtype, ndim, "C")
    for name, (dtype, ndim) in FIELDS.items()
}
INDEX = {name: i for i, name in enumerate(FIELDS)}


class Kernel:
    """The arrays of one replication, by the names of layout.FIELDS. Immutable: see replace()."""

    _numba_type_ = KERNEL

    def __init__(self, **arrays: np.ndarray):
        self._table = np.zeros(2 * len(FIELDS), np.int64)
        for name, (dtype, ndim) in FIELDS.items():
            array = np.ascontiguousarray(arrays[name], dtype=dtype)
            assert array.ndim == ndim, name
            setattr(self, name, array)
            self._table[2 * INDEX[name]] = array.ctypes.data
            self._table[2 * INDEX[name] + 1] = len(array)
        self.address = int(self._table.ctypes.data)

    def replace(self, **arrays: np.ndarray) -> Kernel:
        """A Kernel in which some arrays are others."""
        return Kernel(**{name: arrays.get(name, getattr(self, name)) for name in FIELDS})


@typeof_impl.register(Kernel)
def _typeof(value, context):
    return KERNEL


@register_model(KernelType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, ir.IntType(64))


@unbox(KernelType)
def _unbox(typ, obj, c):
    attribute = c.pyapi.object_getattr_string(obj, "address")
    value = c.pyapi.long_as_longlong(attribute)
    c.pyapi.decref(attribute)
    return NativeValue(value)


@infer_getattr
class _Attributes(AttributeTemplate):
    key = KernelType

    def generic_resolve(self, typ, attr):
        if attr.startswith("n_") and attr[2:] in ARRAYS:
            return types.int64
        return ARRAYS.get(attr)


@lower_getattr_generic(KernelType)
def _getattr(context, builder, typ, value, attr):
    """`k.slots`: a view of the array; `k.n_slots`: its length.

    The length inside a view is 0: indexes are never negative here, and numba's wrap-around of
    negative ones (index + length) then folds away. The table does not change while compiled code
    runs, so its loads are marked invariant.
    """
    word = ir.IntType(64)
    table = builder.inttoptr(value, word.as_pointer())
    name = attr.removeprefix("n_") if attr not in ARRAYS else attr
    at = 2 * INDEX[name] + (attr != name)
    loaded = builder.load(cgutils.gep_inbounds(builder, table, at))
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    if attr != name:
        return loaded
    array_type = ARRAYS[name]
    array = make_array(array_type)(context, builder)
    itemsize = context.get_abi_sizeof(context.get_data_type(array_type.dtype))
    size, none = ir.Constant(word, itemsize), ir.Constant(word, 0)
    shape, strides = [none], [size]
    if array_type.ndim == 2:  # only pairs; numba finds a row of a C array by the shape
        shape, strides = [none, ir.Constant(word, 2)], [ir.Constant(word, 2 * itemsize), size]
    data = builder.inttoptr(loaded, array.data.type)
    populate_array(array, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
    return array._getvalue()
