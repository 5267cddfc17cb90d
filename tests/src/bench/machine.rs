//! A machine for BPF: runs the programs of an interface instruction by instruction, to count
//! what a packet takes. It is the very code that the kernel is given, so the counts are
//! the same in each run, under each kernel, with each profile of this crate.
//!
//! Where it differs from a kernel: calls of helpers are one instruction, and what they do
//! inside is not counted; constants are loaded that a kernel's verifier knows. Only the
//! instructions that the compiler emits today are known; others are an error that names
//! them. Memory is made of regions far from each other, and an access outside of
//! them is an error, too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use anyhow::{Context as _, Result, bail, ensure};
use aya_obj::Object;
use aya_obj::generated::{bpf_insn, bpf_map_type};

/// Bytes of a processor's cache line.
pub(super) const LINE: u64 = 64;

/// Where in an address the number of its region begins. 0 is nowhere. The context has 32
/// bits for the packet's address: its region is one of the first.
const REGION: u32 = 28;
const CONTEXT: usize = 1;
const PACKET: usize = 2;
const STACK: usize = 3;

/// Of each function, and the most functions that call each other.
const FRAME: u64 = 512;
const DEPTH: usize = 8;

/// So many instructions are no packet's.
const ENDLESS: u64 = 1_000_000;

#[derive(Default)]
struct Region {
    bytes: Vec<u8>,
    /// Of a map: bytes of a value.
    value: usize,
    /// Of a map of maps: what is in its slots.
    inner: BTreeMap<u32, u64>,
    /// Whether lines of it are counted.
    counted: bool,
}

/// A function that was called, and what its caller goes on with.
struct Called {
    back: usize,
    saved: [u64; 5],
    /// It is a round of a loop.
    round: Option<Round>,
}

/// A round of `bpf_loop`.
#[derive(Clone, Copy)]
struct Round {
    function: usize,
    context: u64,
    index: u64,
    most: u64,
}

impl Round {
    fn begin(self, registers: &mut [u64; 11]) -> usize {
        (registers[1], registers[2]) = (self.index, self.context);
        self.function
    }
}

/// Programs and their memory.
pub(super) struct Machine {
    /// The first, and the one that it calls instead of coming back.
    programs: [Rc<[bpf_insn]>; 2],
    regions: Vec<Region>,
    maps: HashMap<String, usize>,
    run: Run,
}

/// What one packet took.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// What the program said.
    pub(super) said: u64,
    pub(super) instructions: u64,
    /// Lines of counted maps, by their addresses.
    pub(super) lines: Vec<u64>,
}

impl Machine {
    /// Loads two programs; `counted`: their maps of which lines are counted.
    pub(super) fn load(
        object: &[u8],
        names: [&str; 2],
        globals: HashMap<&str, (&[u8], bool)>,
        counted: &[&str],
    ) -> Result<Self> {
        let mut object = Object::parse(object)?;
        object.patch_map_data(globals)?;
        let mut regions: Vec<Region> = (0..=STACK).map(|_| Region::default()).collect();
        regions[STACK].bytes = vec![0; FRAME as usize * DEPTH];
        let definitions = Vec::from_iter(object.maps.clone());
        let mut maps = HashMap::new();
        for (name, map) in &definitions {
            let value = map.value_size() as usize;
            let is_ring = map.map_type() == bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
            let entries = if is_ring { 0 } else { map.max_entries() };
            let mut bytes = map.data().to_vec();
            bytes.resize(value * entries as usize, 0);
            maps.insert(name.clone(), regions.len());
            regions.push(Region {
                bytes,
                value,
                counted: counted.contains(&name.as_str()),
                ..Region::default()
            });
        }
        let text: HashSet<usize> = object.functions.keys().map(|(index, _)| *index).collect();
        object.relocate_maps(
            (STACK as i32 + 1..)
                .zip(&definitions)
                .map(|(region, (name, map))| (name.as_str(), region, map)),
            &text,
        )?;
        object.relocate_calls(&text)?;
        let code = |name: &str| -> Result<Rc<[bpf_insn]>> {
            let program = object.programs.get(name).context("no such program")?;
            let function = object.functions.get(&program.function_key());
            let function = function.context("the program has no code")?;
            Ok(Rc::from(&*function.instructions))
        };
        let [first, next] = names.map(code);
        Ok(Self {
            programs: [first?, next?],
            regions,
            maps,
            run: Run::default(),
        })
    }

    /// Writes the only value of a map.
    pub(super) fn write(&mut self, map: &str, bytes: &[u8]) -> Result<()> {
        let region = *self.maps.get(map).context("no such map")?;
        let to = &mut self.regions[region].bytes;
        let bytes = bytes.get(..to.len()).context("the map is larger")?;
        to.copy_from_slice(bytes);
        Ok(())
    }

    /// Puts a map of one value, which is counted, into a map of maps.
    pub(super) fn put(&mut self, outer: &str, slot: u32, bytes: &[u8]) -> Result<()> {
        let start = (self.regions.len() as u64) << REGION;
        let outer = *self.maps.get(outer).context("no such map")?;
        self.regions[outer].inner.insert(slot, start);
        self.regions.push(Region {
            bytes: bytes.to_vec(),
            value: bytes.len(),
            counted: true,
            ..Region::default()
        });
        Ok(())
    }

    /// Runs the program on a frame.
    pub(super) fn run(&mut self, frame: &[u8]) -> Result<&Run> {
        self.run = Run::default();
        frame.clone_into(&mut self.regions[PACKET].bytes);
        let start = (PACKET as u32) << REGION;
        let context = [start, start + u32::try_from(frame.len())?, start, 0, 0, 0];
        self.regions[CONTEXT].bytes = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut registers = [0u64; 11];
        registers[1] = (CONTEXT as u64) << REGION;
        registers[10] = ((STACK as u64) << REGION) + FRAME;
        let mut callers: Vec<Called> = Vec::new();
        let [mut program, next] = self.programs.clone();
        let mut at = 0;
        loop {
            let code = *program.get(at).context("behind the end of the program")?;
            at += 1;
            self.run.instructions += 1;
            ensure!(self.run.instructions < ENDLESS, "does not end");
            let (to, from) = (code.dst_reg() as usize, code.src_reg() as usize);
            let immediate = i64::from(code.imm) as u64;
            let operand = if code.code & 8 == 0 {
                immediate
            } else {
                registers[from]
            };
            let offset = i64::from(code.off) as u64;
            let size = [4, 2, 1, 8][usize::from(code.code >> 3 & 3)];
            match code.code {
                0x18 => {
                    let high = program.get(at).context("half an instruction")?.imm;
                    at += 1;
                    registers[to] = match from {
                        0 => u64::from(code.imm as u32) | u64::from(high as u32) << 32,
                        // A map, whose address is that of its first value; or a place in it.
                        1 => u64::from(code.imm as u32) << REGION,
                        2 => (u64::from(code.imm as u32) << REGION) + u64::from(high as u32),
                        // A function, whose address is its place in the program.
                        4 => (at as u64 - 1).wrapping_add(immediate),
                        _ => bail!("unknown constant of kind {from}"),
                    };
                }
                0x61 | 0x69 | 0x71 | 0x79 => {
                    let mut bytes = [0; 8];
                    let value = self.memory(registers[from].wrapping_add(offset), size)?;
                    bytes[..size].copy_from_slice(value);
                    registers[to] = u64::from_le_bytes(bytes);
                }
                0x62 | 0x6a | 0x72 | 0x7a | 0x63 | 0x6b | 0x73 | 0x7b => {
                    let value = if code.code & 7 == 3 {
                        registers[from]
                    } else {
                        immediate
                    };
                    let place = self.memory(registers[to].wrapping_add(offset), size)?;
                    place.copy_from_slice(&value.to_le_bytes()[..size]);
                }
                0xdc => {
                    let value = registers[to];
                    registers[to] = match code.imm {
                        16 => u64::from((value as u16).to_be()),
                        32 => u64::from((value as u32).to_be()),
                        _ => value.to_be(),
                    };
                }
                // A function, or bpf_loop.
                0x85 if from == 1 || code.imm == 181 => {
                    ensure!(callers.len() < DEPTH - 1, "calls too deep");
                    let round = Round {
                        function: registers[2] as usize,
                        context: registers[3],
                        index: 0,
                        most: registers[1],
                    };
                    let round = Some(round).filter(|_| from != 1);
                    if round.is_some_and(|round| round.most == 0) {
                        registers[0] = 0;
                        continue;
                    }
                    callers.push(Called {
                        back: at,
                        saved: [6, 7, 8, 9, 10].map(|register| registers[register]),
                        round,
                    });
                    registers[10] += FRAME;
                    at = match round {
                        Some(round) => round.begin(&mut registers),
                        None => at.wrapping_add_signed(code.imm as isize),
                    };
                }
                // bpf_tail_call: what called is left, and its functions.
                0x85 if code.imm == 12 => {
                    program = Rc::clone(&next);
                    callers.clear();
                    registers[10] = ((STACK as u64) << REGION) + FRAME;
                    at = 0;
                }
                0x85 => registers[0] = self.help(code.imm, &registers)?,
                0x95 => {
                    let Some(called) = callers.last_mut() else {
                        self.run.said = registers[0];
                        return Ok(&self.run);
                    };
                    if let Some(round) = &mut called.round {
                        round.index += 1;
                        if registers[0] == 0 && round.index < round.most {
                            at = round.begin(&mut registers);
                            continue;
                        }
                        registers[0] = round.index;
                    }
                    at = called.back;
                    registers[6..].copy_from_slice(&called.saved);
                    callers.pop();
                }
                code if code & 7 == 7 => {
                    registers[to] = computed(code, registers[to], operand)?;
                }
                jump if jump & 7 == 5 => {
                    if jumps(jump, registers[to], operand)? {
                        at = at.wrapping_add_signed(code.off as isize);
                    }
                }
                unknown => bail!("unknown instruction {unknown:#04x}"),
            }
        }
    }

    /// Memory, which is noted.
    fn memory(&mut self, address: u64, size: usize) -> Result<&mut [u8]> {
        let region = self.regions.get_mut((address >> REGION) as usize);
        let region = region.with_context(|| format!("no memory at {address:#x}"))?;
        if region.counted {
            for line in address / LINE..=(address + size as u64 - 1) / LINE {
                if !self.run.lines.contains(&line) {
                    self.run.lines.push(line);
                }
            }
        }
        let start = (address & ((1 << REGION) - 1)) as usize;
        let bytes = region.bytes.get_mut(start..start + size);
        bytes.with_context(|| format!("no memory at {address:#x}"))
    }

    /// The helpers that a frame may come to.
    fn help(&mut self, helper: i32, registers: &[u64; 11]) -> Result<u64> {
        let [_, first, second, third, fourth, ..] = *registers;
        let frame = self.regions[PACKET].bytes.len() as u64;
        Ok(match helper {
            // bpf_map_lookup_elem
            1 => {
                let key = self.memory(second, 4)?.try_into().map(u32::from_le_bytes)?;
                let map = &self.regions[(first >> REGION) as usize];
                let offset = key as usize * map.value;
                if let Some(inner) = map.inner.get(&key) {
                    *inner
                } else if map.inner.is_empty() && offset + map.value <= map.bytes.len() {
                    first + offset as u64
                } else {
                    0
                }
            }
            // bpf_xdp_get_buff_len
            188 => frame,
            // bpf_xdp_load_bytes
            189 if second + fourth <= frame => {
                let from = ((PACKET as u64) << REGION) + second;
                let bytes = self.memory(from, fourth as usize)?.to_vec();
                self.memory(third, bytes.len())?.copy_from_slice(&bytes);
                0
            }
            189 => -22i64 as u64,
            _ => bail!("unknown helper {helper}"),
        })
    }
}

fn computed(code: u8, value: u64, by: u64) -> Result<u64> {
    Ok(match code >> 4 {
        0x0 => value.wrapping_add(by),
        0x1 => value.wrapping_sub(by),
        0x2 => value.wrapping_mul(by),
        0x3 => value.checked_div(by).unwrap_or(0),
        0x4 => value | by,
        0x5 => value & by,
        0x6 => value.wrapping_shl(by as u32),
        0x7 => value.wrapping_shr(by as u32),
        0x8 => value.wrapping_neg(),
        0x9 => value.checked_rem(by).unwrap_or(value),
        0xa => value ^ by,
        0xb => by,
        0xc => (value as i64).wrapping_shr(by as u32) as u64,
        _ => bail!("unknown instruction {code:#04x}"),
    })
}

fn jumps(code: u8, value: u64, with: u64) -> Result<bool> {
    let (signed, signed_with) = (value as i64, with as i64);
    Ok(match code >> 4 {
        0x0 => true,
        0x1 => value == with,
        0x2 => value > with,
        0x3 => value >= with,
        0x4 => value & with != 0,
        0x5 => value != with,
        0x6 => signed > signed_with,
        0x7 => signed >= signed_with,
        0xa => value < with,
        0xb => value <= with,
        0xc => signed < signed_with,
        0xd => signed <= signed_with,
        _ => bail!("unknown instruction {code:#04x}"),
    })
}
