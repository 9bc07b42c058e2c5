//! So much of GraphQL as the adapter writes: one operation with variables, fields with arguments and aliases. What is selected
//! is what is answered, and a field that an object does not have is refused, as a schema would.

use serde_json::{Map, Value, json};

/// Where an object holds one, it is a list that is answered as a connection, page by page.
pub const LIST: &str = "__list";

pub struct Document {
    /// Whether it is no query.
    pub changes: bool,
    /// With whether it has to be given.
    variables: Vec<(String, bool)>,
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    alias: String,
    arguments: Vec<(String, Argument)>,
    fields: Vec<Field>,
}

#[derive(Debug, Clone)]
enum Argument {
    Variable(String),
    Value(Value),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    Variable(String),
    Number(i64),
    Sign(char),
}

impl Document {
    pub fn parse(text: &str) -> Result<Document, String> {
        let mut reader = Reader {
            tokens: tokens(text)?,
            at: 0,
        };
        let changes = match reader.name()?.as_str() {
            "query" => false,
            "mutation" => true,
            other => return Err(format!("Unexpected {other}")),
        };
        reader.name()?;
        let mut variables = Vec::new();
        if reader.takes('(') {
            while !reader.takes(')') {
                let name = reader.variable()?;
                reader.expect(':')?;
                reader.name()?;
                variables.push((name, reader.takes('!')));
            }
        }
        let fields = reader.fields()?;
        if reader.at != reader.tokens.len() {
            return Err("Expected the end".into());
        }
        let document = Document {
            changes,
            variables,
            fields,
        };
        for (name, _) in &document.variables {
            if !document.fields.iter().any(|field| field.uses(name)) {
                return Err(format!("Variable \"${name}\" is never used"));
            }
        }
        Ok(document)
    }

    /// What the variables are that were sent, or what is wrong with them.
    pub fn check(&self, given: &Map<String, Value>) -> Result<(), String> {
        for (name, required) in &self.variables {
            if *required && !given.contains_key(name) {
                return Err(format!(
                    "Variable \"${name}\" of required type was not provided"
                ));
            }
        }
        match given
            .keys()
            .find(|name| self.variables.iter().all(|(declared, _)| declared != *name))
        {
            Some(unknown) => Err(format!("Variable \"${unknown}\" is not defined")),
            None => Ok(()),
        }
    }
}

impl Field {
    pub fn arguments(&self, given: &Map<String, Value>) -> Map<String, Value> {
        self.arguments
            .iter()
            .filter_map(|(name, argument)| {
                let value = match argument {
                    Argument::Value(value) => value.clone(),
                    Argument::Variable(variable) => given.get(variable)?.clone(),
                };
                Some((name.clone(), value))
            })
            .collect()
    }

    /// Puts what is selected of a whole object under its alias.
    pub fn answer(
        &self,
        whole: Value,
        given: &Map<String, Value>,
        page_len: usize,
        into: &mut Map<String, Value>,
    ) -> Result<(), String> {
        let whole = match whole.get(LIST) {
            Some(Value::Array(items)) => page(items, &self.arguments(given), page_len),
            _ => whole,
        };
        into.insert(self.alias.clone(), self.select(whole, given, page_len)?);
        Ok(())
    }

    fn select(
        &self,
        whole: Value,
        given: &Map<String, Value>,
        page_len: usize,
    ) -> Result<Value, String> {
        match whole {
            Value::Array(items) => items
                .into_iter()
                .map(|item| self.select(item, given, page_len))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array),
            Value::Object(mut members) => {
                if self.fields.is_empty() {
                    return Err(format!("Field \"{}\" must have a selection", self.name));
                }
                let mut answer = Map::new();
                for field in &self.fields {
                    let member = members
                        .remove(&field.name)
                        .ok_or_else(|| format!("Cannot query field \"{}\"", field.name))?;
                    field.answer(member, given, page_len, &mut answer)?;
                }
                Ok(Value::Object(answer))
            }
            Value::Null => Ok(Value::Null),
            _ if !self.fields.is_empty() => {
                Err(format!("Field \"{}\" must not have a selection", self.name))
            }
            leaf => Ok(leaf),
        }
    }

    fn uses(&self, variable: &str) -> bool {
        self.arguments
            .iter()
            .any(|(_, argument)| matches!(argument, Argument::Variable(name) if name == variable))
            || self.fields.iter().any(|field| field.uses(variable))
    }
}

/// A list for [`LIST`].
pub fn list(items: impl IntoIterator<Item = Value>) -> Value {
    json!({ LIST: items.into_iter().collect::<Vec<_>>() })
}

fn page(items: &[Value], arguments: &Map<String, Value>, page_len: usize) -> Value {
    let from = arguments
        .get("after")
        .and_then(Value::as_str)
        .map_or(0, |cursor| cursor[1..].parse::<usize>().unwrap() + 1);
    let first = arguments
        .get("first")
        .and_then(Value::as_u64)
        .map_or(page_len, |first| page_len.min(first as usize));
    let to = items.len().min(from + first);
    let edges: Vec<Value> = (from..to)
        .map(|at| json!({ "cursor": format!("c{at}"), "node": items[at] }))
        .collect();
    json!({
        "pageInfo": {
            "hasNextPage": to < items.len(),
            "hasPreviousPage": from > 0,
            "startCursor": edges.first().map(|_| format!("c{from}")),
            "endCursor": edges.last().map(|_| format!("c{}", to - 1)),
        },
        "edges": edges,
    })
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let mut word = String::new();
        let is_word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        match c {
            // Commas are spaces to GraphQL.
            _ if c.is_whitespace() || c == ',' => continue,
            '(' | ')' | '{' | '}' | ':' | '!' => tokens.push(Token::Sign(c)),
            '$' => {
                while let Some(c) = chars.next_if(is_word) {
                    word.push(c);
                }
                tokens.push(Token::Variable(word));
            }
            _ if is_word(&c) => {
                word.push(c);
                while let Some(c) = chars.next_if(is_word) {
                    word.push(c);
                }
                tokens.push(word.parse().map_or(Token::Name(word), Token::Number));
            }
            _ => return Err(format!("Unexpected character {c:?}")),
        }
    }
    Ok(tokens)
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
}

impl Reader {
    fn fields(&mut self) -> Result<Vec<Field>, String> {
        self.expect('{')?;
        let mut fields = Vec::new();
        while !self.takes('}') {
            let alias = self.name()?;
            let name = if self.takes(':') {
                self.name()?
            } else {
                alias.clone()
            };
            let mut arguments = Vec::new();
            if self.takes('(') {
                while !self.takes(')') {
                    let name = self.name()?;
                    self.expect(':')?;
                    arguments.push((name, self.argument()?));
                }
            }
            let selects = self.tokens.get(self.at) == Some(&Token::Sign('{'));
            let fields_of = if selects { self.fields()? } else { Vec::new() };
            fields.push(Field {
                name,
                alias,
                arguments,
                fields: fields_of,
            });
        }
        Ok(fields)
    }

    fn argument(&mut self) -> Result<Argument, String> {
        match self.next()? {
            Token::Variable(name) => Ok(Argument::Variable(name)),
            Token::Number(number) => Ok(Argument::Value(number.into())),
            Token::Name(name) if name == "true" => Ok(Argument::Value(true.into())),
            Token::Name(name) if name == "false" => Ok(Argument::Value(false.into())),
            other => Err(format!("Unexpected {other:?}")),
        }
    }

    fn name(&mut self) -> Result<String, String> {
        match self.next()? {
            Token::Name(name) => Ok(name),
            other => Err(format!("Expected a name, found {other:?}")),
        }
    }

    fn variable(&mut self) -> Result<String, String> {
        match self.next()? {
            Token::Variable(name) => Ok(name),
            other => Err(format!("Expected a variable, found {other:?}")),
        }
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        if self.takes(sign) {
            Ok(())
        } else {
            Err(format!("Expected {sign}"))
        }
    }

    fn takes(&mut self, sign: char) -> bool {
        let found = self.tokens.get(self.at) == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    fn next(&mut self) -> Result<Token, String> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token.ok_or_else(|| "Unexpected end".to_owned())
    }
}
