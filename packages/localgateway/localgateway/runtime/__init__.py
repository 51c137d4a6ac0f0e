"""Lambda: functions in processes or threads, kept warm and killed past their time, and the queues and schedules that
invoke them.

A function that fails, hangs or dies costs its own invocation and nothing else.
"""
