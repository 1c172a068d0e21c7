# Tries what the daemon must not be able to do, and says of each whether it is possible. Argument: a directory of its own.
use strict;
use warnings;
use Socket;

my ($own) = @ARGV;

sub attempt {
    my ($what, $possible) = @_;
    my $error = $!;
    print $possible ? "possible: $what\n" : "denied ($error): $what\n";
}

sub writes {
    my ($path) = @_;
    my $ok = open(my $file, '>', $path) or return 0;
    close $file;
    unlink $path;
    return 1;
}

sub reads {
    my ($path) = @_;
    open(my $file, '<', $path) or return 0;
    return defined(readline $file);
}

attempt('write to its own directory', writes("$own/attempt"));

attempt("write to $_", writes("$_/attempt")) for qw(/etc /usr/local /var/lib /var/cache /srv/app /run /root /home/somebody);
attempt("read $_", reads($_)) for qw(/root/file /home/somebody/file /tmp/file /var/tmp/file);
attempt('see the processes of others', -d '/proc/1');
attempt('make a control group', mkdir('/sys/fs/cgroup/attempt') && rmdir('/sys/fs/cgroup/attempt'));

# By number, x86_64 or aarch64.
my $arm = `uname -m` =~ /aarch64/;
my %number = $arm
  ? (mmap => 222, personality => 92, unshare => 97, sethostname => 161, mount => 40, ptrace => 117, fchownat => 54,
     sched_setscheduler => 119, chroot => 51, setns => 268, keyctl => 219)
  : (mmap => 9, personality => 135, unshare => 272, sethostname => 170, mount => 165, ptrace => 101, fchownat => 260,
     sched_setscheduler => 144, chroot => 161, setns => 308, keyctl => 250);

sub call {
    my ($name, @arguments) = @_;
    return syscall($number{$name}, @arguments) != -1;
}

attempt('map memory to write and execute', call('mmap', 0, 4096, 7, 0x22, -1, 0));
attempt('change its personality', call('personality', 0x0040000));
attempt('set the host name', call('sethostname', my $name = 'vm', 2));
attempt('mount', call('mount', my $source = 'tmpfs', my $target = '/mnt', my $type = 'tmpfs', 0, 0));
attempt('give a file away', do { open(my $file, '>', "$own/given"); my $path = "$own/given"; call('fchownat', -100, $path, 33, 33, 0) });
attempt('change its root', call('chroot', my $root = '/'));
attempt('make a file setuid', do { chmod(04755, "$own/given") && ((stat "$own/given")[2] & 04000) });
attempt('become another user', do { local $> = 33; my $is = $> == 33; $is });
attempt('make a namespace for users', do {
    my $child = fork // die;
    if (!$child) { exit(call('unshare', 0x10000000) ? 0 : $!+0 || 1) }
    waitpid $child, 0;
    $! = $? >> 8;
    $? == 0;
});
attempt('open a raw socket', socket(my $raw, PF_INET, SOCK_RAW, 1));
attempt('open a netlink socket', socket(my $netlink, 16, SOCK_RAW, 0));
attempt('open a packet socket', socket(my $packet, 17, SOCK_RAW, 0));
attempt('signal init', kill(0, 1));
attempt('list devices', -e '/dev/console' || -e '/dev/net/tun' || -e '/dev/tty0' || -e '/dev/pts/ptmx' && -e '/dev/kmsg');
attempt('run with real-time priority', call('sched_setscheduler', 0, 1, my $priority = pack('i', 1)));
unlink "$own/given";
