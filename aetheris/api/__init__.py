"""The HTTP API: every route behind one gate, every answer on record.

access      roles, permissions, and the declaration of a route
auth, keys  from a token to a caller
gate        the way of a request, in order
service     the store as requests see it: one tenant each
app         all declared routes as one app; `server` runs it
"""
