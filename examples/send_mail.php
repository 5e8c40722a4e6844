<?php
// Sends a mail through the mesh from plain PHP, without any library:
//
//     php examples/send_mail.php alice@example.org "Hello Alice"
//
// BRIDGE says where a node listens for plain sockets (127.0.0.1:12345).

[, $to, $contents] = $argv + [1 => 'alice@example.org', 2 => 'Hello from PHP'];
$bridge = getenv('BRIDGE') ?: '127.0.0.1:12345';

$socket = @stream_socket_client("tcp://$bridge", $code, $message, 5);
if (!$socket) {
    fwrite(STDERR, "no node listens at $bridge: $message\n");
    exit(1);
}
stream_set_timeout($socket, 30);

$request = [
    'function' => 'send_mail',
    'args' => ['from' => 'php@example.org', 'to' => $to, 'contents' => $contents],
];
fwrite($socket, json_encode($request) . "\n");

$line = fgets($socket); // the whole reply: one line, however long; fread() may return a part of it
if ($line === false) {
    fwrite(STDERR, "no reply within 30 s\n");
    exit(1);
}
$reply = json_decode($line, true);
if (isset($reply['error'])) {
    fwrite(STDERR, "{$reply['error']['type']}: {$reply['error']['message']}\n");
    exit(1);
}
echo "sent to {$reply['to']} as {$reply['message_id']}\n";
