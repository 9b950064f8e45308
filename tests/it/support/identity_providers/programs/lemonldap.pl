# The portal of LemonLDAP::NG on a free port of this machine, over plain HTTP; its configuration stands in LLNG_DEFAULTCONFFILE.
# Writes `port N` when it listens, and ends when its standard input does.
use strict;
use warnings;

use HTTP::Server::PSGI;
use IO::Socket::INET;
use Lemonldap::NG::Portal::Main;
use Plack::App::File;
use Plack::Builder;

# The portal loads a captcha whether it asks for one or not, and the one it has draws pictures with more programs.
package Lemonldap::NG::Portal::Captcha::None {
    use Mouse;
    extends 'Lemonldap::NG::Portal::Main::Plugin';
    sub init { return 1 }
    $INC{'Lemonldap/NG/Portal/Captcha/None.pm'} = __FILE__;
}

# This server answers by HTTP/1.0 whatever it is asked by, and closes. The servers that people run speak HTTP/1.1.
package Server {
    our @ISA = ('HTTP::Server::PSGI');

    sub write_all {
        my ( $self, $socket, $text, $timeout ) = @_;
        $text =~ s{\AHTTP/1\.0 ([^\r]*\r\n)}{HTTP/1.1 $1Connection: close\r\n} if defined $text;
        return $self->SUPER::write_all( $socket, $text, $timeout );
    }
}

my $portal = Lemonldap::NG::Portal::Main->run({});
my $app = builder {
    mount '/static'     => Plack::App::File->new( root => '/usr/share/lemonldap-ng/portal/htdocs/static' )->to_app;
    mount '/javascript' => Plack::App::File->new( root => '/usr/share/javascript' )->to_app;
    mount '/' => sub {
        my ($env) = @_;
        # TLS ends before this program.
        $env->{'psgi.url_scheme'} = 'https';
        $env->{HTTPS}             = 'on';
        # The server that Debian has in front of it tells these.
        $env->{REQUEST_URI} ||= $env->{PATH_INFO};
        return $portal->($env);
    };
};

# The portal's own addresses of pictures have two slashes, which the servers that people run take for one.
my $served = sub {
    my ($env) = @_;
    $env->{PATH_INFO} =~ s{\A/+}{/};
    return $app->($env);
};

my $listener = IO::Socket::INET->new( LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 64, Proto => 'tcp' )
  or die "no port: $!";

# This server is one process that serves one request at a time, so another process waits for the end of the input.
my $server = $$;
if ( !fork ) {
    $listener->close;
    1 while <STDIN>;
    kill 'KILL', $server;
    exit;
}

$| = 1;
print 'port ', $listener->sockport, "\n";
Server->new( listen_sock => $listener, timeout => 10 )->run($served);
