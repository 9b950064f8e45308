//! The operator's Unix socket. Only its user can connect from the first moment on, and it is never taken from a gateway that
//! runs.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Operators who may wait to be accepted.
const BACKLOG: i32 = 16;

/// Why there is no operator socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another gateway answers on it.
    #[error("another durward is running with the operator socket {0}")]
    Alive(PathBuf),
    /// Something else has this name.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    #[error("the operator socket {path} cannot be made: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Removes the socket's name when the gateway ends, unless somebody else's socket has it by then.
#[derive(Debug)]
pub struct SocketName {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketName {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            // A failure does no harm: the next start finds that nobody answers there, and replaces the socket.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Listens on `path` with mode 0600. An old socket is replaced if nobody answers on it. Must be called within a tokio
/// runtime.
///
/// # Errors
/// [`SocketError`].
pub fn bind(path: &Path) -> Result<(UnixListener, SocketName), SocketError> {
    let failed = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    remove_stale(path)?;
    let listener = listen(path).map_err(failed)?;
    let inode = std::fs::symlink_metadata(path).map_err(failed)?.ino();
    let name = SocketName {
        path: path.to_owned(),
        inode,
    };
    Ok((listener, name))
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux gives the name the mode its socket has, so there is no moment in which others may
    // connect; the second call is for systems that do not.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket)))
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Alive(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}
