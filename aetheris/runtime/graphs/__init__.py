"""Task graphs: a job written as nodes in YAML or JSON, checked before it exists, run over the same ctx.

source     bytes to a tree that knows its lines
template   `${...}`: paths into input and results, nothing else
model      the tree as nodes, or what is wrong with its shape
check      the nodes against each other and against the tools
condition  `if`, and what it compares with
adapter    runs them, ready ones concurrently
agent      a graph as an agent
"""
