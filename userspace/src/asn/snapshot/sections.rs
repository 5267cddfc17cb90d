//! What a snapshot says: a database as sections, each a count and that many records.
//! Whether the bytes are those that were written is for [`super`] to know; here every
//! byte may be wrong.

use std::{slice::ChunksExact, thread};

use super::super::model::{
    AsnDb, AsnInfo, Combine, CountryRange, Org, OriginRange, Row, Source, Vrp,
};
use crate::asn::Country;

/// An integer in the file.
trait Field: Sized + Copy {
    const SIZE: usize;
    fn put(self, out: &mut Vec<u8>);
    /// `bytes` has [`Self::SIZE`] bytes.
    fn of(bytes: &[u8]) -> Option<Self>;
}

macro_rules! fields {
    ($($int:ty),*) => {$(
        impl Field for $int {
            const SIZE: usize = size_of::<$int>();

            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn of(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_le_bytes)
            }
        }
    )*};
}

fields!(u8, u16, u32, u64, u128, i64);

impl Field for Country {
    const SIZE: usize = 2;

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        // `from_str` would repair lower case; a snapshot has none.
        let code: [u8; 2] = bytes.try_into().ok()?;
        code.iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(code))
    }
}

/// What a list has one after the other, each as long as the others.
trait Record: Sized {
    const SIZE: usize;
    fn put(&self, out: &mut Vec<u8>);
    /// `bytes` has [`Self::SIZE`] bytes.
    fn of(bytes: &[u8]) -> Option<Self>;
}

macro_rules! records {
    ($($record:ident { $($field:ident: $kind:ty),* })*) => {$(
        impl<A: Field> Record for $record<A> {
            const SIZE: usize = 0 $(+ <$kind>::SIZE)*;

            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn of(bytes: &[u8]) -> Option<Self> {
                let mut left = bytes;
                Some(Self { $($field: first(&mut left)?),* })
            }
        }
    )*};
}

records! {
    OriginRange { start: A, end: A, origins: u32 }
    CountryRange { start: A, end: A, country: Country }
    Row { start: A, end: A, asn: u32, source: u16, line: u32 }
    Vrp { start: A, len: u8, max: u8, asn: u32, source: u16, line: u32 }
}

/// The first field of what is left of a record.
fn first<T: Field>(left: &mut &[u8]) -> Option<T> {
    T::of(left.split_off(..T::SIZE)?)
}

fn put_list<T>(items: &[T], out: &mut Vec<u8>, mut each: impl FnMut(&T, &mut Vec<u8>)) {
    (items.len() as u64).put(out);
    for item in items {
        each(item, out);
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    (text.len() as u32).put(out);
    out.extend_from_slice(text.as_bytes());
}

fn put_country(country: Option<Country>, out: &mut Vec<u8>) {
    out.extend_from_slice(&country.map_or([0, 0], |country| country.0));
}

fn put_records<T: Record>(records: &[T], out: &mut Vec<u8>) {
    put_list(records, out, T::put);
}

/// Appends all sections.
pub(super) fn write(db: &AsnDb, out: &mut Vec<u8>) {
    put_records(&db.v4, out);
    put_records(&db.v6, out);
    put_list(&db.origins, out, |set, out| {
        (set.len() as u32).put(out);
        for asn in set {
            asn.put(out);
        }
    });
    put_records(&db.countries_v4, out);
    put_records(&db.countries_v6, out);
    put_records(&db.rows_v4, out);
    put_records(&db.rows_v6, out);
    put_list(&db.asns, out, |(asn, info), out| {
        asn.put(out);
        put_country(info.country, out);
        put_text(&info.name, out);
    });
    put_list(&db.orgs, out, |org, out| {
        put_text(&org.id, out);
        put_text(&org.name, out);
        put_country(org.country, out);
        put_list(&org.asns, out, |asn, out| asn.put(out));
    });
    put_records(&db.vrps_v4, out);
    put_records(&db.vrps_v6, out);
    out.push(match db.combine {
        Combine::Union => 0,
        Combine::Priority => 1,
    });
    put_list(&db.sources, out, |source, out| {
        put_text(&source.file, out);
        put_text(&source.format, out);
        source.rows.put(out);
        source.skipped.put(out);
    });
    db.imported.put(out);
}

type Read1<T> = Result<T, &'static str>;

const SHORT: &str = "a section is longer than the file";
const NO_COUNTRY: &str = "a country is not two letters";

struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Read1<&'a [u8]> {
        let (bytes, left) = self.left.split_at_checked(size).ok_or(SHORT)?;
        self.left = left;
        Ok(bytes)
    }

    fn get<T: Field>(&mut self) -> Read1<T> {
        T::of(self.take(T::SIZE)?).ok_or(NO_COUNTRY)
    }

    /// A list whose items take at least `least` bytes each: so a wrong count is
    /// found before memory is set aside for it.
    fn list<T>(
        &mut self,
        least: usize,
        mut each: impl FnMut(&mut Self) -> Read1<T>,
    ) -> Read1<Vec<T>> {
        let count = self.get::<u64>()?;
        let fits = (self.left.len() / least) as u64;
        if count > fits {
            return Err(SHORT);
        }
        let mut out = Vec::with_capacity(count as usize);
        for _ in 0..count {
            out.push(each(self)?);
        }
        Ok(out)
    }

    fn text(&mut self) -> Read1<String> {
        let size = self.get::<u32>()?;
        let bytes = self.take(size as usize)?;
        let text = std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")?;
        Ok(text.to_owned())
    }

    /// A list of records of one size, as bytes: all of them are there.
    fn raw(&mut self, size: usize) -> Read1<ChunksExact<'a, u8>> {
        let count = self.get::<u64>()?;
        let bytes = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(size))
            .ok_or(SHORT)?;
        Ok(self.take(bytes)?.chunks_exact(size))
    }

    fn records<T: Record>(&mut self) -> Read1<Vec<T>> {
        let records = self.raw(T::SIZE)?;
        let mut out = Vec::with_capacity(records.len());
        for record in records {
            out.push(T::of(record).ok_or(NO_COUNTRY)?);
        }
        Ok(out)
    }
}

fn rows<A: Field>(records: ChunksExact<'_, u8>) -> Vec<Row<A>> {
    let mut rows = Vec::with_capacity(records.len());
    // Each record is as long as a row, and integers are what they are.
    rows.extend(records.filter_map(Row::of));
    rows
}

fn country(from: &mut Reader<'_>) -> Read1<Option<Country>> {
    match from.take(2)? {
        [0, 0] => Ok(None),
        code => Ok(Some(Country::of(code).ok_or(NO_COUNTRY)?)),
    }
}

/// Reads all sections, and checks what queries and the compiler rely on.
///
/// # Errors
///
/// What is wrong with them.
pub(super) fn read(body: &[u8]) -> Read1<AsnDb> {
    let from = &mut Reader { left: body };
    let mut db = AsnDb {
        v4: from.records()?,
        v6: from.records()?,
        origins: from.list(4, |from| {
            let size = from.get::<u32>()?;
            let bytes = from.take(size as usize * 4)?;
            Ok(bytes.chunks_exact(4).filter_map(u32::of).collect())
        })?,
        countries_v4: from.records()?,
        countries_v6: from.records()?,
        ..AsnDb::default()
    };
    let v4 = from.raw(Row::<u32>::SIZE)?;
    let v6 = from.raw(Row::<u128>::SIZE)?;
    // Half of the file, beside the other half, which is many small texts.
    thread::scope(|scope| {
        let rows = scope.spawn(|| (rows(v4), rows(v6)));
        described(from, &mut db)?;
        (db.rows_v4, db.rows_v6) = rows.join().map_err(|_| "its rows cannot be read")?;
        Read1::Ok(())
    })?;
    if !from.left.is_empty() {
        return Err("there is more than its sections");
    }
    check(&db)?;
    Ok(db)
}

/// What stands behind the rows.
fn described(from: &mut Reader<'_>, db: &mut AsnDb) -> Read1<()> {
    *db = AsnDb {
        asns: from.list(10, |from| {
            let asn = from.get()?;
            let country = country(from)?;
            let name = from.text()?;
            Ok((asn, AsnInfo { name, country }))
        })?,
        orgs: from.list(18, |from| {
            Ok(Org {
                id: from.text()?,
                name: from.text()?,
                country: country(from)?,
                asns: from.list(4, Reader::get)?,
            })
        })?,
        vrps_v4: from.records()?,
        vrps_v6: from.records()?,
        combine: match from.take(1)? {
            [0] => Combine::Union,
            [1] => Combine::Priority,
            _ => return Err("its sources are combined in an unknown way"),
        },
        sources: from.list(24, |from| {
            Ok(Source {
                file: from.text()?,
                format: from.text()?,
                rows: from.get()?,
                skipped: from.get()?,
            })
        })?,
        imported: from.get()?,
        ..std::mem::take(db)
    };
    Ok(())
}

/// What queries and the compiler rely on.
fn check(db: &AsnDb) -> Read1<()> {
    fn sorted<A: Ord, T>(items: &[T], ends: impl Fn(&T) -> (&A, &A)) -> bool {
        items.iter().all(|item| ends(item).0 <= ends(item).1)
            && items.windows(2).all(|w| ends(&w[0]).1 < ends(&w[1]).0)
    }
    fn rows<A: Ord + Copy>(rows: &[Row<A>], sources: usize) -> bool {
        rows.is_sorted_by_key(|row| (row.source, row.start, row.end))
            && rows
                .iter()
                .all(|row| row.start <= row.end && usize::from(row.source) < sources)
    }
    let ranges = sorted(&db.v4, |r| (&r.start, &r.end))
        && sorted(&db.v6, |r| (&r.start, &r.end))
        && sorted(&db.countries_v4, |r| (&r.start, &r.end))
        && sorted(&db.countries_v6, |r| (&r.start, &r.end));
    if !ranges {
        return Err("its ranges are not in order");
    }
    let known = |id: u32| {
        db.origins
            .get(id as usize)
            .is_some_and(|set| !set.is_empty())
    };
    if !(db.v4.iter().all(|r| known(r.origins)) && db.v6.iter().all(|r| known(r.origins))) {
        return Err("a range has no origins");
    }
    if !(rows(&db.rows_v4, db.sources.len()) && rows(&db.rows_v6, db.sources.len())) {
        return Err("its rows are not in order");
    }
    if !db.asns.is_sorted_by_key(|&(asn, _)| asn) {
        return Err("its ASNs are not in order");
    }
    if !db.orgs.iter().all(|org| org.asns.is_sorted()) {
        return Err("the ASNs of an organisation are not in order");
    }
    if !(db.vrps_v4.is_sorted_by_key(|vrp| (vrp.start, vrp.len))
        && db.vrps_v6.is_sorted_by_key(|vrp| (vrp.start, vrp.len)))
    {
        return Err("its RPKI payloads are not in order");
    }
    Ok(())
}
