"""What happens in a channel: subscribe, publish, deliver in order, recover, and who is present.

Always true: in a channel with history each member receives the publications in the order of their offsets without a
gap, or is closed so that it reconnects and recovers; a channel without history writes nothing and promises no order.
"""
