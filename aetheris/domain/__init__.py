"""Pure rules: events, canonical form, chain, Merkle tree, cells, states, fold. No I/O.

Everything here is a function of its arguments. `orjson` is imported by
`encode` alone, so that the evidence verifier can use the rest with nothing
but the standard library.
"""
