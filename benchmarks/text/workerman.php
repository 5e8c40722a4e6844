<?php
/**
 * The peer of the bridge: a Workerman 5 worker that speaks the Text protocol and calls a function that does nothing.
 *
 *     php workerman.php CHECKOUT PROCESSES FOLDER PORT
 *
 * CHECKOUT is a folder that `composer require workerman/workerman` was run in, or a plain checkout of Workerman.
 * Its process id file lies in FOLDER. With PORT 0 the processes share one socket on a free port of 127.0.0.1, as
 * Workerman has it by default; on any other each has a socket of its own (reusePort). Every process says where it
 * listens on standard error.
 */

declare(strict_types=1);

use Workerman\Connection\TcpConnection;
use Workerman\Worker;

if ($argc !== 5) {
    fwrite(STDERR, "php workerman.php CHECKOUT PROCESSES FOLDER PORT\n");
    exit(2);
}
[, $checkout, $processes, $folder, $port] = $argv;

if (is_file("$checkout/vendor/autoload.php")) {
    require "$checkout/vendor/autoload.php";
} elseif (is_file("$checkout/src/Worker.php")) {
    // As its composer.json says (PSR-4). The package workerman/coroutine, which it names beside, is only
    // entered from onWorkerStart or in the event loops of coroutines, and neither is in use here.
    spl_autoload_register(static function (string $class) use ($checkout): void {
        $file = "$checkout/src/" . strtr(substr($class, strlen('Workerman\\')), '\\', '/') . '.php';
        if (str_starts_with($class, 'Workerman\\') && is_file($file)) {
            require $file;
        }
    });
} else {
    fwrite(STDERR, "neither vendor/autoload.php nor src/Worker.php is in $checkout\n");
    exit(2);
}

/** Says where it listens, in each process that accepts. */
class Announced extends Worker
{
    public function listen(bool $autoAccept = true): void
    {
        parent::listen($autoAccept);
        if ($autoAccept) {
            $address = stream_socket_get_name($this->getMainSocket(), false);
            $name = 'Workerman ' . Worker::VERSION . ' on ' . Worker::$eventLoopClass;
            fwrite(STDERR, "$name, listening: $address\n");
        }
    }
}

function noop(): void
{
}

const TASKS = ['noop' => 'noop'];

$worker = new Announced("text://127.0.0.1:$port");
$worker->reusePort = $port !== '0';
$worker->count = (int) $processes;
$worker->onMessage = static function (TcpConnection $connection, string $line): void {
    $request = json_decode($line, true);
    $connection->send(json_encode((TASKS[$request['function']])(...$request['args'])));
};

Worker::$pidFile = "$folder/workerman-" . getmypid() . '.pid';
Worker::$statusFile = "$folder/workerman-" . getmypid() . '.status';
Worker::$logFile = '/dev/null';
Worker::$command = 'start -q';
Worker::runAll();
