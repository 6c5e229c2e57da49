"""Hot loops: pure functions on arrays, compiled with numba.

Vector fields are (X, Y, Z, 3) float32 C-order arrays of voxel displacements. Every kernel
gives the same bits for any number of threads: parallel loops write disjoint slabs, and
reductions sum one partial result per slab in slab order.
"""
