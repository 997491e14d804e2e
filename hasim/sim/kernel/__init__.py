"""The data plane: every request, in one compiled event loop over flat arrays.

layout    the record arrays and the words (phases, flags, notices)
draw      counter-based random numbers and inverse CDFs
calendar  the event queue, FIFO queues and the ready list
cpu       CPU of a container: dedicated timers or processor sharing, quota, short hosts
balance   HAProxy's choice of a server
path      a request on its way to a server: connect, retry, time out
work      what a service does with a request: workers, steps, pools, nested calls
users     clients: iterations, answers, probes, arrivals
loop      advance(): the event loop
commands  what the control plane may do to all of it

Functions call only downwards in this list; work for another slot goes through the ready list, so
there is no recursion. Nothing here allocates.
"""
