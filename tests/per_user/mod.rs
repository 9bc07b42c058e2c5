mod calls;
mod ended;
mod far;
mod house;
mod instances;
mod refused;
