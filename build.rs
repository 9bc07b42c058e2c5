fn main() {
    // The migrations are part of the program; a new file alone would not rebuild it.
    println!("cargo::rerun-if-changed=migrations");
}
