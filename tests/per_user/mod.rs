mod calls;
mod far;
mod house;
mod instances;
