mod calls;
mod ended;
mod eras;
mod far;
mod house;
mod instances;
mod refused;
