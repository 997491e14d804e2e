"""How numba makes one piece of machine code of many small helpers."""

from __future__ import annotations

from llvmlite.binding import Linkage
from numba import config, njit, types
from numba.core.codegen import JITCodeLibrary
from numba.core.config import _OptLevel


def jit(function):
    """A helper of compiled code: no reference counting (`_nrt=False`), so a call costs nothing.

    numba would optimise each helper and make machine code of it by itself, and again within each
    of its callers. A helper is only lowered to LLVM here; entry() optimises it once, with all that
    it needs. This reaches into numba; tests/sim/test_kernel_options.py asserts the effect.
    """
    dispatcher = njit(nogil=True, _nrt=False, error_model="numpy")(function)
    compile_ = dispatcher.compile

    def no_wrappers(flags):
        flags.no_cpython_wrapper = True
        flags.no_cfunc_wrapper = True
        flags.no_rewrites = True
        return flags

    def lower(sig):
        context = dispatcher.targetctx
        codegen = context.codegen()
        kept = context.get_executable, codegen._library_class
        context.get_executable, codegen._library_class = _no_code, _Lowered
        try:
            return compile_(_widened(sig))
        finally:
            context.get_executable, codegen._library_class = kept

    dispatcher._compiler._customize_flags = no_wrappers
    dispatcher.compile = lower
    return dispatcher


class _Lowered(JITCodeLibrary):
    """The code of a helper: kept for linking, neither linked, optimised nor made executable."""

    def _optimize_functions(self, ll_module):
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self):
        self._raise_if_finalized()
        self._finalize_dynamic_globals()
        self._finalized = True


class _Whole(JITCodeLibrary):
    """The code of an entry point with all its helpers, which nobody else calls: LLVM may inline
    them, drop their unused results and see that they raise nothing.
    """

    def finalize(self):
        # callers come before what they call: the linker takes only functions that are asked for
        order: dict[JITCodeLibrary, None] = {}
        for library in self._linking_libraries:
            self._callees_first(library, order)
        self._linking_libraries = list(reversed(order))
        super().finalize()

    def _callees_first(self, library, order):
        if library in order:
            return
        if isinstance(library, _Lowered):
            for callee in library._linking_libraries:
                self._callees_first(callee, order)
        order[library] = None

    def _optimize_final_module(self):
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.linkonce_odr:
                function.linkage = "internal"
        super()._optimize_final_module()


def entry(function):
    """A function that Python calls: optimised with all its helpers, cached on disk."""
    dispatcher = njit(nogil=True, _nrt=False, cache=True, error_model="numpy")(function)
    compile_ = dispatcher.compile

    def whole(sig):
        codegen = dispatcher.targetctx.codegen()
        kept = codegen._library_class, config.OPT, config.LOOP_VECTORIZE
        # level 3 and vector loops cost a third of the compilation and gain nothing here
        config.OPT, config.LOOP_VECTORIZE = _OptLevel(2), 0
        codegen._library_class = _Whole
        try:
            return compile_(sig)
        finally:
            codegen._library_class, config.OPT, config.LOOP_VECTORIZE = kept

    dispatcher.compile = whole
    return dispatcher


def _no_code(library, fndesc, env):
    """Python never calls a helper: any builtin that is like no other serves as its handle."""
    return {}.get


def _widened(sig):
    """One version of each helper, for int64: numba makes one for each literal argument."""
    if not isinstance(sig, tuple):
        return sig
    plain = (types.unliteral(a) for a in sig)
    return tuple(types.int64 if a in (types.int32, types.intp) else a for a in plain)
