#!/bin/sh
# Calls a task from a shell, with nothing but nc:
#
#     sh examples/call.sh send_mail '{"to": "alice@example.org", "contents": "Hello Alice"}'
#     sh examples/call.sh smtp_greeting
#
# BRIDGE says where a node listens for plain sockets (127.0.0.1:12345). The arguments are JSON: an object
# gives them by name, an array by position. -N tells the node that no more requests follow.

bridge=${BRIDGE:-127.0.0.1:12345}
printf '{"function": "%s", "args": %s}\n' "$1" "${2:-null}" | nc -N "${bridge%:*}" "${bridge##*:}"
