//! What happens to a packet and why: enums whose text is at once a reason, a metric label and a
//! field of `--json`.

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Action {
    /// It goes on to the router's stack.
    Pass = 0,
    /// It goes on and is reported.
    Audit = 1,
    /// It ends here.
    Drop = 2,
}

impl Action {
    /// All, from the mildest to the strictest; the index is the value.
    pub const ALL: [Self; 3] = [Self::Pass, Self::Audit, Self::Drop];

    /// The word in policies, metrics and `--json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Audit => "audit",
            Self::Drop => "drop",
        }
    }

    /// From the two bits of a verdict word. What no writer writes is a drop.
    #[must_use]
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        match bits {
            0 => Self::Pass,
            1 => Self::Audit,
            _ => Self::Drop,
        }
    }
}

/// Why a packet got its action. The order is that of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No zone has the frame's tags.
    NoZone = 0,
    /// ARP, LLDP, EAPOL, slow protocols, 802.3 to 01:80:c2:00:00:0x.
    NotIp = 1,
    /// What keeps a link alive and cannot leave it.
    Infrastructure = 2,
    /// No rule matched: the zone's default.
    Default = 3,
    /// A rule decided.
    Rule = 4,
    /// A third counting tag, or a ninth tag.
    VlanDepth = 5,
    /// An ethertype that is neither IP nor known to be harmless.
    Ethertype = 6,
    /// The frame is shorter than its headers declare.
    Truncated = 7,
    /// Impossible lengths or versions.
    BadHeader = 8,
    /// Loopback, 0/8 or unspecified destination.
    Martian = 9,
    /// More than eight IPv6 extension headers.
    HeaderChain = 10,
    /// IPv4 LSRR or SSRR.
    SourceRoute = 11,
    /// IPv6 routing header with segments left.
    RoutingHeader = 12,
    /// A protocol that carries other packets.
    Tunnel = 13,
    /// A source that the zone cannot have.
    SpoofedSource = 14,
}

/// Number of [`Reason`]s.
pub const REASONS: usize = 15;
/// Counter slots that each zone and each port owns: every reason with every
/// action, then every reason that was ignored with the action the packet got.
pub const FIXED_SLOTS: u32 = (REASONS * 3 + UNPARSABLE_REASONS * 3) as u32;
/// Number of reasons that say a packet was not understood or hides where it goes.
pub const UNPARSABLE_REASONS: usize = REASONS - Reason::FIRST_UNPARSABLE as usize;

impl Reason {
    /// All, by value.
    pub const ALL: [Self; REASONS] = [
        Self::NoZone,
        Self::NotIp,
        Self::Infrastructure,
        Self::Default,
        Self::Rule,
        Self::VlanDepth,
        Self::Ethertype,
        Self::Truncated,
        Self::BadHeader,
        Self::Martian,
        Self::HeaderChain,
        Self::SourceRoute,
        Self::RoutingHeader,
        Self::Tunnel,
        Self::SpoofedSource,
    ];

    /// The first reason that says a packet was not understood or hides where it goes.
    pub const FIRST_UNPARSABLE: u8 = Self::VlanDepth as u8;

    /// The word in policies, metrics and `--json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoZone => "no-zone",
            Self::NotIp => "not-ip",
            Self::Infrastructure => "infrastructure",
            Self::Default => "default",
            Self::Rule => "rule",
            Self::VlanDepth => "vlan-depth",
            Self::Ethertype => "ethertype",
            Self::Truncated => "truncated",
            Self::BadHeader => "bad-header",
            Self::Martian => "martian",
            Self::HeaderChain => "header-chain",
            Self::SourceRoute => "source-route",
            Self::RoutingHeader => "routing-header",
            Self::Tunnel => "tunnel",
            Self::SpoofedSource => "spoofed-source",
        }
    }

    /// Whether the packet was not understood or hides where it goes.
    #[must_use]
    pub const fn is_unparsable(self) -> bool {
        self as u8 >= Self::FIRST_UNPARSABLE
    }

    /// The counter slot for this reason and action, counted from the zone's first.
    #[must_use]
    #[inline(always)]
    pub const fn fixed_slot(self, action: Action) -> u32 {
        self as u32 * 3 + action as u32
    }

    /// The counter slot for packets in which unparsable reason number `index`
    /// (from [`Self::FIRST_UNPARSABLE`]) was met and ignored.
    #[must_use]
    #[inline(always)]
    pub const fn noted_slot(index: u32, action: Action) -> u32 {
        (REASONS * 3) as u32 + index * 3 + action as u32
    }
}

/// The address that decided, in the order in which they are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Judged {
    /// None: there was no destination to read.
    Nothing = 0,
    /// The packet's destination, or the IPv4 address it stands for (NAT64, v4-mapped).
    Destination = 1,
    /// The first IPv4 address in the destination; of a Teredo one the server.
    Embedded = 2,
    /// The second; of a Teredo destination the client.
    SecondEmbedded = 3,
    /// The third.
    ThirdEmbedded = 4,
    /// The fourth.
    FourthEmbedded = 5,
    /// The destination of the packet inside a tunnel.
    Inner = 6,
    /// As `Embedded`, of the inner destination.
    InnerEmbedded = 7,
    /// As `SecondEmbedded`, of the inner destination.
    InnerSecondEmbedded = 8,
    /// As `ThirdEmbedded`, of the inner destination.
    InnerThirdEmbedded = 9,
    /// As `FourthEmbedded`, of the inner destination.
    InnerFourthEmbedded = 10,
}

/// How tunnels are treated, beside the three actions.
pub const TUNNEL_INSPECT: u32 = 3;

/// Shift of a reason's two bits in [`Zone::settings`]: an [`Action`], for
/// [`Reason::Tunnel`] also [`TUNNEL_INSPECT`].
#[must_use]
#[inline(always)]
pub const fn setting_shift(reason: Reason) -> u32 {
    (reason as u32 - Reason::FIRST_UNPARSABLE as u32) * 2
}
