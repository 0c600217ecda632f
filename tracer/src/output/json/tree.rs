//! The family of a process as one JSON object, in the names of the events.
//!
//! In: a process with its ancestors and descendants. Out: the process as events tell it, `connections`,
//! `ancestors` (the parent first) and `children`; each of these has the same members again, but for its lineage.

use super::Json;
use super::marks::Added;
use super::object::{Object, key, write_list};
use super::process::Rendered;
use crate::event::BootTime;
use crate::output::names;
use crate::output::tree::{Node, Tree};
use crate::process::population::Life;

impl Json {
    /// Appends a line for a tree.
    pub fn tree(&mut self, tree: &Tree, now: BootTime, out: &mut Vec<u8>) {
        let mut line = Object::begin(out);
        line.word(key!("@timestamp"), self.clock.render(now));
        line.members(br#""ecs":{"version":"9.0.0"}"#);
        line.members(&self.host);
        let subject = &tree.subject;
        let texts = self.processes.rendered(&subject.member.image, now).clone();
        self.member(subject, &texts, &mut line);
        write_list(&tree.ancestors, line.key(key!("ancestors")), |node, out| {
            let mut object = Object::begin(out);
            self.relative(node, now, &mut object);
            object.end();
        });
        self.children(subject, now, &mut line);
        line.end();
        out.push(b'\n');
    }

    /// Recurses as deep as the tree is.
    fn children(&mut self, node: &Node, now: BootTime, object: &mut Object<'_>) {
        write_list(&node.children, object.key(key!("children")), |node, out| {
            let mut object = Object::begin(out);
            self.relative(node, now, &mut object);
            self.children(node, now, &mut object);
            object.end();
        });
    }

    fn relative(&mut self, node: &Node, now: BootTime, object: &mut Object<'_>) {
        let texts = self.processes.without_lineage(&node.member.image, now);
        self.member(node, &texts, object);
    }

    fn member(&mut self, node: &Node, texts: &Rendered, object: &mut Object<'_>) {
        object.object(key!("process"), |process| {
            process.members(&texts.process);
            if let Life::Exited(Some(at)) = node.member.life {
                process.word(key!("end"), self.clock.render(at));
            }
        });
        object.members(&texts.workload);
        object.object(key!("tracer"), |tracer| {
            tracer.word(key!("life"), names::life(node.member.life));
            if let Some(relation) = node.relation() {
                tracer.word(key!("relation"), names::relation(relation));
            }
            if node.omitted > 0 {
                tracer.number(key!("descendants_omitted"), node.omitted);
            }
            texts.write_tracer(&Added::default(), tracer);
        });
        let out = object.key(key!("connections"));
        write_list(&node.sockets, out, |socket, out| {
            let mut connection = Object::begin(out);
            self.socket_alone(socket, &mut connection);
            connection.end();
        });
    }
}
