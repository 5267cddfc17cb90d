//! `bpf(2)` where aya has no call for it: slots of an array of maps (aya tells
//! inner maps apart by Rust types, of which ours have none), reading many counters
//! with one call, where a link is, and taking it off at once. And other calls that no
//! safe library makes: what `ethtool` asks, and in which groups a client is.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use aya::maps::MapData;
use kordon_ebpf::layout::{COUNTER_PAGE, Counter};

// Of `enum bpf_cmd` in `linux/bpf.h`.
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_DETACH: libc::c_int = 34;

/// The part of `union bpf_attr` that commands on one element read.
#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part that batch commands read.
#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// The part that `BPF_OBJ_PIN` and `BPF_OBJ_GET` read.
#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The part that `BPF_LINK_CREATE` reads for a program of an interface.
#[repr(C)]
struct NewLink {
    program: u32,
    interface: u32,
    kind: u32,
    flags: u32,
}

/// The part that `BPF_OBJ_GET_INFO_BY_FD` reads.
#[repr(C)]
struct Info {
    fd: u32,
    length: u32,
    info: u64,
}

/// The head of `struct bpf_link_info`, as it is of a link to an interface.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    interface: u32,
    rest: [u32; 11],
}

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Id of its program.
    pub program: u32,
    /// Number of its interface; 0: that is gone, or somebody took the link off.
    pub interface: u32,
}

/// One command; what it returns is a file descriptor or 0.
///
/// # Safety
/// The attribute is what the command reads and writes, of its size, and what it
/// points to lives and is large enough.
pub(super) unsafe fn bpf<T>(command: libc::c_int, attribute: *const T) -> io::Result<RawFd> {
    // SAFETY: as the caller says.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attribute, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

/// Takes the program of a pinned link off its interface, and returns when it is
/// off. Removing the pin alone does that some time later.
pub fn detach_link(pin: &Path) -> io::Result<()> {
    let link = open_pin(pin)?;
    let attribute = link.as_raw_fd();
    // SAFETY: the command reads the link's number and nothing else.
    unsafe { bpf(BPF_LINK_DETACH, &raw const attribute) }?;
    Ok(())
}

/// Kinds of links to an interface, of `enum bpf_link_type`.
const XDP: u32 = 6;
const TCX: u32 = 11;

/// Where a pinned link to an interface (XDP, TCX) is; `EINVAL` where something else is pinned.
pub fn link_target(pin: &Path) -> io::Result<Target> {
    target_of(open_pin(pin)?.as_fd())
}

/// As [`link_target`], of what is open.
pub fn target_of(link: BorrowedFd<'_>) -> io::Result<Target> {
    let link = link.as_raw_fd();
    // Programs and maps answer the same question in the same place.
    let other = io::Error::from_raw_os_error(libc::EINVAL);
    if let Some(kind) = kind_of(link)
        && !kind.as_os_str().as_bytes().ends_with(b"link")
    {
        return Err(other);
    }
    let info = info(link)?;
    if !matches!(info.kind, XDP | TCX) {
        return Err(other);
    }
    Ok(Target {
        program: info.program,
        interface: info.interface,
    })
}

/// What an object is, in the kernel's words; `None`: it does not say.
fn kind_of(object: RawFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{object}")).ok()
}

/// The head of what the kernel says of an object: of maps and programs, kind and id are where
/// they are of links.
fn info(object: RawFd) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let attribute = Info {
        fd: object.cast_unsigned(),
        length: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the attribute has the layout that the command reads; what it points to has
    // the length that it says, and lives as long as the call.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &raw const attribute) }?;
    Ok(info)
}

/// Tells an object from all others: what it is, and its number among these.
pub fn identity(object: RawFd) -> io::Result<(Option<String>, u32)> {
    // A link is called `bpf-link` by who made it, and `bpf_link` by who opens its pin.
    let kind = kind_of(object).map(|kind| kind.to_string_lossy().replace('-', "_"));
    Ok((kind, info(object)?.id))
}

/// The head of what the kernel says of a program (`struct bpf_prog_info`).
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    before: [u32; 13],
    map_count: u32,
    maps: u64,
}

/// The ids of the maps that a program uses, asked of the program itself: to open one by its id
/// takes CAP_SYS_ADMIN, which the daemon need not have.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn maps_of(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // More than any program of kordon has; the kernel says how many it wanted to write.
    let mut ids = vec![0; 64];
    let mut info = ProgramInfo {
        map_count: ids.len() as u32,
        maps: ids.as_mut_ptr() as u64,
        ..ProgramInfo::default()
    };
    let attribute = Info {
        fd: program.as_raw_fd().cast_unsigned(),
        length: size_of::<ProgramInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the attribute has the layout that the command reads; what it points to has
    // the length that it says, the ids the length that the info says, and both live as long
    // as the call.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &raw const attribute) }?;
    ids.truncate(info.map_count as usize);
    Ok(ids)
}

/// `BPF_XDP` of `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;

/// Attaches a program to an interface by a link, which lasts as long as it is open or pinned.
/// `flags`: `XDP_FLAGS_DRV_MODE` or `XDP_FLAGS_SKB_MODE`.
pub fn attach_xdp(program: BorrowedFd<'_>, interface: u32, flags: u32) -> io::Result<OwnedFd> {
    let attribute = NewLink {
        program: program.as_raw_fd().cast_unsigned(),
        interface,
        kind: ATTACH_XDP,
        flags,
    };
    // SAFETY: the attribute has the layout that the command reads.
    let fd = unsafe { bpf(BPF_LINK_CREATE, &raw const attribute) }?;
    // SAFETY: the call has just opened it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins an object.
pub fn pin_object(pin: &Path, object: BorrowedFd<'_>) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let attribute = Object {
        path: path.as_ptr() as u64,
        fd: object.as_raw_fd().cast_unsigned(),
        flags: 0,
    };
    // SAFETY: the attribute has the layout that the command reads, and its string
    // lives as long as the call.
    unsafe { bpf(BPF_OBJ_PIN, &raw const attribute) }?;
    Ok(())
}

/// Opens what is pinned.
pub fn open_pin(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let attribute = Object {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    // SAFETY: the attribute has the layout that the command reads, and its string
    // lives as long as the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &raw const attribute) }?;
    // SAFETY: the call has just opened it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(map: &MapData) -> u32 {
    map.fd().as_fd().as_raw_fd().cast_unsigned()
}

fn element(command: libc::c_int, map: &MapData, slot: u32, value: *mut u32) -> io::Result<()> {
    let attribute = Element {
        map: number(map),
        padding: 0,
        key: std::ptr::from_ref(&slot) as u64,
        value: value as u64,
        flags: 0,
    };
    // SAFETY: the attribute has the layout that the commands read; key and value
    // live as long as the call, and have four bytes in an array of maps.
    unsafe { bpf(command, &raw const attribute) }?;
    Ok(())
}

/// Puts a map into a slot of an array of maps. Returns when no program can hold
/// the one that was there.
///
/// # Errors
/// When the kernel refuses, as it does for maps of another size.
pub fn set_slot(outer: &MapData, slot: u32, inner: &MapData) -> io::Result<()> {
    let mut inner = number(inner);
    element(BPF_MAP_UPDATE_ELEM, outer, slot, &raw mut inner)
}

/// Puts a program into a slot of an array of programs.
///
/// # Errors
/// When the kernel refuses, as it does for programs of another type.
pub fn set_program(array: &MapData, slot: u32, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut program = program.as_raw_fd().cast_unsigned();
    element(BPF_MAP_UPDATE_ELEM, array, slot, &raw mut program)
}

/// The id of the map, or program, in a slot. `None`: the slot is empty.
///
/// # Errors
/// When the kernel refuses.
pub fn slot(outer: &MapData, slot: u32) -> io::Result<Option<u32>> {
    let mut id = 0;
    match element(BPF_MAP_LOOKUP_ELEM, outer, slot, &raw mut id) {
        Ok(()) => Ok(Some(id)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Empties a slot, so that the map in it can go.
///
/// # Errors
/// When the kernel refuses.
pub fn clear_slot(outer: &MapData, slot: u32) -> io::Result<()> {
    match element(BPF_MAP_DELETE_ELEM, outer, slot, std::ptr::null_mut()) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// The first `count` counters of a per-CPU array of pages, all CPUs added.
///
/// # Errors
/// When the kernel refuses.
pub fn counters(map: &MapData, count: usize) -> io::Result<Vec<Counter>> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(path, e)| io::Error::other(format!("cannot read {path}: {e}")))?;
    let page = COUNTER_PAGE as usize;
    let pages = count.div_ceil(page);
    let mut sums = Vec::with_capacity(pages * page);
    let mut from = 0_u32;
    let mut keys = vec![0_u32; 16.min(pages)];
    let mut values = vec![Counter::default(); keys.len() * cpus * page];
    while sums.len() < count {
        let wanted = keys.len().min(pages - sums.len() / page);
        let mut to = 0_u32;
        let mut attribute = Batch {
            from: if sums.is_empty() {
                0
            } else {
                std::ptr::from_ref(&from) as u64
            },
            to: (&raw mut to) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: wanted as u32,
            map: number(map),
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the attribute has the layout that the command reads; the
        // buffers have room for `count` keys, and for as many values for each
        // possible CPU, and live as long as the call.
        match unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &raw mut attribute) } {
            // What the kernel says at the end of the map.
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => return Err(e),
            _ => {}
        }
        let got = attribute.count as usize;
        if got == 0 {
            break;
        }
        // Each page stands there as many times as there are CPUs.
        for page_of_all in values[..got * cpus * page].chunks(cpus * page) {
            let first = sums.len();
            sums.resize(first + page, Counter::default());
            for page_of_one in page_of_all.chunks(page) {
                for (sum, counter) in sums[first..].iter_mut().zip(page_of_one) {
                    *sum += *counter;
                }
            }
        }
        from = to;
    }
    sums.truncate(count);
    Ok(sums)
}

/// One page of counters, all CPUs added.
///
/// # Errors
/// When the kernel refuses.
pub fn page(map: &MapData, index: u32) -> io::Result<Vec<Counter>> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(path, e)| io::Error::other(format!("cannot read {path}: {e}")))?;
    let page = COUNTER_PAGE as usize;
    let mut values = vec![Counter::default(); cpus * page];
    let attribute = Element {
        map: number(map),
        padding: 0,
        key: std::ptr::from_ref(&index) as u64,
        value: values.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: the attribute has the layout that the command reads; there is room for a
    // value of each possible CPU, and it lives as long as the call.
    unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &raw const attribute) }?;
    let mut sums = vec![Counter::default(); page];
    for page_of_one in values.chunks(page) {
        for (sum, counter) in sums.iter_mut().zip(page_of_one) {
            *sum += *counter;
        }
    }
    Ok(sums)
}

nix::ioctl_readwrite_bad!(
    /// What `ethtool` asks; the number's type is not the same everywhere.
    siocethtool,
    libc::SIOCETHTOOL,
    libc::ifreq
);

/// The supplementary groups of the process at the other end of a socket, as they were when it
/// connected (`SO_PEERGROUPS` of unix(7)).
///
/// # Errors
/// When the system does not say.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<libc::gid_t>> {
    // As many as a process may have.
    let mut groups = vec![0; 65_536];
    let mut size = libc::socklen_t::try_from(size_of_val(&groups[..])).unwrap_or(0);
    // SAFETY: the kernel writes no more than `size` bytes, which the vector has, and says
    // in `size` how many it wrote.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(usize::try_from(size).unwrap_or(0) / size_of::<libc::gid_t>());
    Ok(groups)
}

/// A command of `linux/ethtool.h` to a device. The words begin with the command, and must
/// have room for all that the kernel answers to it.
///
/// # Safety
/// They have.
///
/// # Errors
/// When the kernel refuses.
pub unsafe fn ethtool(device: &str, words: &mut [u32]) -> io::Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    if device.len() >= name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "interface names have 15 characters at most",
        ));
    }
    for (to, from) in name.iter_mut().zip(device.bytes()) {
        // Signed or not, by architecture.
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))
        .or_else(|_| std::net::UdpSocket::bind(("::1", 0)))
        .or_else(|_| std::net::UdpSocket::bind(("0.0.0.0", 0)))?;
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: words.as_mut_ptr().cast(),
        },
    };
    // SAFETY: the request points to words with room for the answer, as the caller says, and
    // both live longer than the call.
    unsafe { siocethtool(socket.as_raw_fd(), &raw mut request) }?;
    Ok(())
}
