//! The ASN database of the daemon, and what it is known by: a hash over all that verdicts depend
//! on. Live BGP makes another one of it, which is only put together when somebody asks for it.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::{
    asn::{AsnDb, Country, Info},
    daemon::bgp::{Bgp, Busy},
};

/// A database, and what it is known by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Database {
    /// As it was imported.
    pub(crate) db: Arc<AsnDb>,
    id: [u8; 32],
    info: Arc<OnceLock<Info>>,
    /// With live BGP over it.
    with_bgp: Option<WithBgp>,
    /// It is empty because what was kept cannot be read: nothing may come of it that
    /// takes the place of what is enforced.
    lost: bool,
    /// It was imported at the start, because there was no snapshot of it.
    imported: bool,
}

/// What live BGP makes of a database.
#[derive(Clone, Debug)]
struct WithBgp {
    id: [u8; 32],
    /// Made when somebody asks: the kernel's table is changed without it.
    db: Arc<OnceLock<Arc<AsnDb>>>,
    bgp: Bgp,
}

impl Database {
    pub(crate) fn new(db: AsnDb) -> Self {
        Self {
            id: id(&db),
            db: Arc::new(db),
            info: Arc::default(),
            with_bgp: None,
            lost: false,
            imported: false,
        }
    }

    /// Stands for one that cannot be read.
    pub(super) fn lost() -> Self {
        Self {
            lost: true,
            ..Self::new(AsnDb::default())
        }
    }

    /// It comes from the sources, at the start.
    pub(super) fn imported(self) -> Self {
        Self {
            imported: true,
            ..self
        }
    }

    /// Whether it only stands for one that cannot be read.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether it was in use before: now, or in an earlier daemon.
    pub(crate) fn was_in_use(&self) -> bool {
        !self.lost && !self.imported
    }

    /// Whether another one holds the same, whatever live BGP says.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.id == other.id
    }

    /// Equal ids, equal verdicts.
    pub(crate) fn id(&self) -> &[u8; 32] {
        self.with_bgp
            .as_ref()
            .map_or(&self.id, |with_bgp| &with_bgp.id)
    }

    /// What it is called as it was imported, in hexadecimal; `None`: there is nothing in it.
    pub(crate) fn name(&self) -> Option<String> {
        (!self.db.sources.is_empty()).then(|| hex::encode(self.id))
    }

    /// What is enforced: with live BGP over it.
    pub(crate) fn effective(&self) -> &Arc<AsnDb> {
        let Some(with_bgp) = &self.with_bgp else {
            return &self.db;
        };
        let (db, bgp) = (&with_bgp.db, &with_bgp.bgp);
        db.get_or_init(|| Arc::new(bgp.in_effect().overlaid(&self.db)))
    }

    /// As [`Self::effective`], for whoever does not wait for live BGP.
    pub(crate) fn glance(&self) -> Result<Arc<AsnDb>, Busy> {
        let Some(with_bgp) = &self.with_bgp else {
            return Ok(Arc::clone(&self.db));
        };
        if let Some(db) = with_bgp.db.get() {
            return Ok(Arc::clone(db));
        }
        let in_effect = with_bgp.bgp.glance()?.in_effect();
        let db = with_bgp
            .db
            .get_or_init(|| Arc::new(in_effect.overlaid(&self.db)));
        Ok(Arc::clone(db))
    }

    /// Whether nobody is known to announce anything.
    pub(crate) fn has_no_origins(&self) -> bool {
        self.with_bgp.is_none() && self.db.origins.is_empty()
    }

    /// With what is in effect of live BGP over it.
    pub(crate) fn under(mut self, bgp: &Bgp) -> Self {
        let in_effect = bgp.in_effect();
        self.with_bgp = (!in_effect.is_empty()).then(|| {
            let db = in_effect.overlaid(&self.db);
            WithBgp {
                id: id(&db),
                db: Arc::new(OnceLock::from(Arc::new(db))),
                bgp: bgp.clone(),
            }
        });
        self
    }

    /// After the kernel's table was changed in place: it is another one, which no other
    /// daemon knows.
    pub(crate) fn amended(mut self, bgp: &Bgp) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.id());
        hash.update(Timestamp::now().as_nanosecond().to_le_bytes());
        self.with_bgp = Some(WithBgp {
            id: hash.finalize().into(),
            db: Arc::default(),
            bgp: bgp.clone(),
        });
        self
    }

    pub(crate) fn info(&self) -> &Info {
        self.info.get_or_init(|| self.db.info())
    }
}

/// A hash that is given millions of small pieces.
struct Pieces {
    hash: Sha256,
    buffer: Vec<u8>,
}

impl Pieces {
    const SIZE: usize = 16 << 10;

    fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.buffer.extend_from_slice(bytes.as_ref());
        if self.buffer.len() >= Self::SIZE {
            self.hash.update(&self.buffer);
            self.buffer.clear();
        }
    }

    fn finish(mut self) -> [u8; 32] {
        self.hash.update(&self.buffer);
        self.hash.finalize().into()
    }
}

fn id(db: &AsnDb) -> [u8; 32] {
    let mut hash = Pieces {
        hash: Sha256::new(),
        buffer: Vec::with_capacity(2 * Pieces::SIZE),
    };
    let code = |country: Option<Country>| country.map_or([0; 2], |country| country.0);
    for length in [
        db.v4.len(),
        db.v6.len(),
        db.origins.len(),
        db.countries_v4.len(),
    ] {
        hash.update((length as u64).to_le_bytes());
    }
    for range in &db.v4 {
        hash.update(range.start.to_le_bytes());
        hash.update(range.end.to_le_bytes());
        hash.update(range.origins.to_le_bytes());
    }
    for range in &db.v6 {
        hash.update(range.start.to_le_bytes());
        hash.update(range.end.to_le_bytes());
        hash.update(range.origins.to_le_bytes());
    }
    for origins in &db.origins {
        hash.update((origins.len() as u64).to_le_bytes());
        for asn in origins {
            hash.update(asn.to_le_bytes());
        }
    }
    for range in &db.countries_v4 {
        hash.update(range.start.to_le_bytes());
        hash.update(range.end.to_le_bytes());
        hash.update(range.country.0);
    }
    for range in &db.countries_v6 {
        hash.update(range.start.to_le_bytes());
        hash.update(range.end.to_le_bytes());
        hash.update(range.country.0);
    }
    for (asn, info) in &db.asns {
        hash.update(asn.to_le_bytes());
        hash.update(code(info.country));
    }
    for org in &db.orgs {
        for text in [&org.id, &org.name] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hash.update((org.asns.len() as u64).to_le_bytes());
        for asn in &org.asns {
            hash.update(asn.to_le_bytes());
        }
    }
    hash.finish()
}
